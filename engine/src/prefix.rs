//! How byte strings begin.

/// The first `N` bytes, with zeros behind a shorter string. Read as big-endian numbers they are in the strings' order, as far as they go.
#[inline]
pub fn prefix<const N: usize>(bytes: &[u8]) -> [u8; N] {
    match bytes.first_chunk::<N>() {
        Some(first) => *first,
        None => {
            let mut first = [0; N];
            first[..bytes.len()].copy_from_slice(bytes);
            first
        }
    }
}
