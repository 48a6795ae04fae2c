package gtid_test

import (
	"fmt"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// What a replica has and its source lacks is errant: somebody wrote on the replica, or the source
// lost something.
func ExampleHistory_Errant() {
	source, _ := gtid.Parse(flavor.MySQL, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-100")
	replica, _ := gtid.Parse(flavor.MySQL, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-98,bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb:1-2")
	fmt.Println(replica.Errant(source))
	fmt.Println(replica.Contains(source), replica.Behind(source))
	// Output:
	// bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb:1-2
	// false 2
}

// MariaDB's position names the last transaction of each domain. Two transactions of one number are
// two histories.
func ExampleHistory_Contains() {
	a, _ := gtid.Parse(flavor.MariaDB, "0-100-7")
	b, _ := gtid.Parse(flavor.MariaDB, "0-101-7")
	earlier, _ := gtid.Parse(flavor.MariaDB, "0-100-5")
	fmt.Println(a.Contains(earlier), a.Contains(b), b.Contains(a))
	// Output: true false false
}
