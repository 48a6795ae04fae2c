// Package volume owns what lies on a member's volume: the live data directory, the
// journal of clones, the lock, and the order of system calls that lets a data
// directory appear whole or not at all.
//
//	<volume>/mysql/                      the live data directory
//	<volume>/.understudy/journal         what has been done, see Journal
//	<volume>/.understudy/lock            flock of whoever writes below .understudy
//	<volume>/.understudy/staging-<id>/   a clone under way
//	<volume>/.understudy/replaced-<id>/  a directory that was moved aside; deleted by us only
//	                                     where a reseed has noted in replaced-<id>.json why
//	<volume>/.understudy/reseed          the request to reseed this member
//	<volume>/.understudy/last-reseed     the last one that was carried out or given up
//	<volume>/.understudy/term            what the member remembers of terms, see Term
//	<volume>/.understudy/identity        the volume's part of what identifies the data directory, see DataID
//	<volume>/.understudy/backup-<id>/    working files of a backup that this member is giving
//	<volume>/.understudy/snapshot/       what this member's server makes for a backup; mounted into its container, too
//	<volume>/.understudy/paused          says that the sidecar leaves the member alone, see Pause
//	<volume>/.understudy/progress.json   how far the clone under way is, for people
package volume
