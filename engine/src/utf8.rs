//! Texts in UTF-8, which is not checked.

/// How many characters there are.
#[inline(always)]
pub fn characters(text: &[u8]) -> usize {
    // Sums in bytes, for as many as they hold, are made many at a time.
    let beginning = |some: &[u8]| -> u8 { some.iter().map(|byte| u8::from(begins(*byte))).sum() };
    text.chunks(255).map(|some| usize::from(beginning(some))).sum()
}

/// Whether a character begins with this byte: all bytes of one but the first are 10xxxxxx.
#[inline(always)]
pub fn begins(byte: u8) -> bool {
    byte as i8 >= -64
}
