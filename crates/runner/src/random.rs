//! Random text for tokens and ids, from the operating system.

use aws_lc_rs::rand;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The system's random source failed; nothing secret can be made then.
#[derive(Debug, thiserror::Error)]
#[error("reading random bytes from the operating system failed")]
pub struct RandomError;

/// `length` characters of `[0-9A-Za-z]`, about 5.95 bits each.
///
/// # Errors
/// [`RandomError`].
pub fn base62(length: usize) -> Result<String, RandomError> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        rand::fill(&mut bytes).map_err(|_| RandomError)?;
        // 248 = 4 * 62: larger values would make some characters likelier than others.
        let characters =
            bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(characters.take(length - text.len()).map(char::from));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_length_and_differ() {
        let (a, b) = (base62(100).unwrap(), base62(100).unwrap());
        assert_eq!((a.len(), b.len()), (100, 100));
        assert_ne!(a, b);
        assert!(a.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
