package replicate

import "fmt"

// Image is what is known of the server's image while it makes the data directory. The official
// images do that in this order: system tables, a server that listens on its socket only, root's
// passwords, the user's scripts, the end of that server, the real one. Where their container is
// restarted in between, they find the system tables, and skip all the rest.
//
//	Ended                                    it is done
//	else Restarted, and Filled               it was interrupted
//	else Begun, and a server answers on TCP  it was interrupted: the scripts' server does not; while
//	                                         it is Untold how, that is waited for
//	else                                     it is at work, or nothing tells: see Unproven
type Image struct {
	// Filled says that there is something in the data directory.
	Filled bool
	// Begun says that the image has come to its scripts. Not all images run any.
	Begun bool
	// Ended says that it is proven that all of them have run.
	Ended bool
	// Restarted says that the server's container was restarted after it had begun to fill the data
	// directory. That its restarts are not known is
	// no proof that there were none.
	Restarted bool
	// End says how the container ended last; empty: it has not, or that is not known. Untold says that
	// Kubernetes may be about to say so.
	End    string
	Untold bool
	// Unproven is why the end is not proven. Unprovable says that it will not be by itself.
	Unproven   string
	Unprovable bool
	// Attempt counts the image's attempts from 1. After the Last one it does not start over by
	// itself.
	Attempt, Last int
}

func (i Image) interrupted(f Facts) bool {
	return !i.Ended && (i.Restarted && i.Filled || i.Begun && f.Answers && !i.Untold)
}

// decideInterrupted starts over, unless that has been of no use.
func (i Image) decideInterrupted() Action {
	text := fmt.Sprintf("the server's image was interrupted while it made the data directory, which is incomplete (attempt %d of %d)", i.Attempt, i.Last)
	if i.End != "" {
		text += "; its container ended: " + i.End
	}
	if i.Attempt < i.Last {
		return Action{StartOver, text + "; it is moved aside, and the image starts over"}
	}
	return Action{Report, text + "; correct what ends it (a script of /docker-entrypoint-initdb.d, the memory limit, a probe without patience: " +
		"see the log of the server's container), then delete the pod or, without Kubernetes, run init: the incomplete directory is moved aside, and the image starts over"}
}

func (i Image) unprovable() string {
	return "a server answers, and nothing proves that its image has made the whole data directory: " + i.Unproven +
		"; mount the scripts of manifests/base/initdb at /docker-entrypoint-initdb.d, which prove it, and start over with an empty volume; " +
		"or, if you know that it is complete, make the empty file .understudy-ended in the data directory"
}

// howToPassword is what to do about a server that its image has just made, and that refuses us.
const howToPassword = "give it to the image (MARIADB_ROOT_PASSWORD_FILE or MYSQL_ROOT_PASSWORD_FILE; " +
	"with MARIADB_RANDOM_ROOT_PASSWORD or MYSQL_RANDOM_ROOT_PASSWORD nobody knows it), or make the account of --admin-user in a script of " +
	"/docker-entrypoint-initdb.d; then delete the pod or, without Kubernetes, run init: the unused data directory is moved aside and made again"
