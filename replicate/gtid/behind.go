package gtid

// Behind is the number of transactions that h lacks of those that source has. On MariaDB it is
// counted by the sequence numbers of each domain, which have no gaps unless somebody has set them;
// a domain in which h is ahead counts as none.
func (h History) Behind(source History) uint64 {
	behind := source.set.Subtract(h.set).Count()
	last := map[uint32]uint64{}
	for _, g := range h.state.Position().last {
		last[g.Domain] = g.Sequence
	}
	for _, g := range source.state.Position().last {
		if n := last[g.Domain]; n < g.Sequence {
			behind += g.Sequence - n
		}
	}
	return behind
}
