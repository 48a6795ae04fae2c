// Package clone gives and takes physical copies of a member's data. Donor is the donor's side,
// Joiner the joiner's; Receive is the part of a joiner that needs no volume.
package clone
