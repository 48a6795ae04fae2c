// Package clone gives and takes physical copies of a member's data: the donor's
// side is Donor, the joiner's side is Joiner, and Receive is the part of a joiner
// that needs no volume.
package clone
