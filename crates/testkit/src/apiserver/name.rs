//! Names of objects.

/// Whether it is a DNS subdomain (RFC 1123), as the names of almost all kinds must be.
pub(super) fn is_valid(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |part: &str| {
        !part.is_empty() && part.chars().all(fits) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
