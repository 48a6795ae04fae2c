// Package trust lets the members of a set know one another: mutually authenticated
// TLS 1.3, from one shared secret or from certificates of one's own.
//
// # From a secret
//
// HKDF-SHA256 over the secret, with an info string that names the namespace and the
// set, seeds one Ed25519 key. A member presents a certificate of that key and accepts
// no other key: no clock, no name and no authority is involved, and the same secret in
// another namespace or set opens nothing here.
//
// # Rotating the secret
//
// A member can have two secrets, the current one and the previous one, and proves both
// of them in every handshake, with one certificate: it is of the current secret's key
// and is signed by the previous secret's key. A peer accepts a certificate that is of
// a key it knows, or is signed by one. So two members talk if and only if they have a
// secret in common, whichever of them dials, and whichever secret is current where:
// nothing is negotiated, and no second try is needed.
//
// That is all a rotation needs. The files change member by member, in any order:
//
//  1. the new secret becomes the current one, the old one the previous one: some
//     members have {old}, others {new, old}; all of them have the old one;
//  2. when all have taken that over, the previous one is removed: some have
//     {new, old}, others {new}; all of them have the new one.
//
// At no instant is there a pair with nothing in common. The files are read at every
// handshake; connections that are open stay open.
//
// The database servers get certificates of an authority that is derived from the same
// secret, for replicas to verify: see ServerCertificate.
//
// # From certificates
//
// Both sides verify the peer's chain against the given authorities alone, its dates
// and its use, and that it carries the set's name, which no other certificate of the
// same authority may carry. The joiner also checks the name that it dialled.
package trust
