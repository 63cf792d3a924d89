//! What is known of a key's value: its SHA-256.

use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The SHA-256 of a key.
///
/// A plain hash is right for keys that a machine has made of 128 random bits or more: nobody can try them all, so a
/// slow hash as for passwords would only make each request slower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// The digest of `key`.
    pub(super) fn of(key: &[u8]) -> Self {
        Self(<Sha256 as sha2::Digest>::digest(key).into())
    }

    /// Reads 64 hexadecimal digits, as sha256sum prints them.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// Whether both are the same, found out in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_and_nothing_else() {
        // The first test vector of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(Digest::from_hex(abc).unwrap().is(&Digest::of(b"abc")));
        assert!(Digest::from_hex(&abc.to_uppercase()).unwrap().is(&Digest::of(b"abc")));
        assert!(!Digest::from_hex(abc).unwrap().is(&Digest::of(b"abd")));
        for bad in ["", &abc[1..], &format!("{abc}0"), &abc.replace("ba", "+a"), &abc.replace("ba", "é")] {
            assert!(Digest::from_hex(bad).is_none(), "{bad}");
        }
    }
}
