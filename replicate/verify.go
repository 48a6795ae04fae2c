package replicate

import (
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// Errant is what a replica has and its source certainly lacks, from the texts in which both
// say what they have (see Facts.Received). id is the replica's server_id. On MariaDB it is
// bounds: the exact list is in the replica's binary logs.
func Errant(f flavor.Flavor, id uint32, replica, source string) (gtid.Errant, error) {
	c, err := possessions{has: [2]string{source}}.compare(possessions{has: [2]string{replica}}, "", f, id)
	return c.errant, err
}
