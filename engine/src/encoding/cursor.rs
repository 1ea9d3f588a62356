//! Checked reading and plain writing of the format's primitive fields.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::{Error, Result};

/// Reads fields off the front of a byte slice. Every error is `Error::Corrupt`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or_else(short)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        u64::try_from(self.number(10)?).map_err(|_| Error::corrupt("a number"))
    }

    pub fn varint128(&mut self) -> Result<u128> {
        self.number(19)
    }

    /// A varint of at most `length` bytes.
    fn number(&mut self, length: usize) -> Result<u128> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().take(length.min(9)).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(u128::from(value));
            }
        }
        self.wide_number(length)
    }

    fn wide_number(&mut self, length: usize) -> Result<u128> {
        let mut value = 0u128;
        for (i, &byte) in self.rest.iter().take(length).enumerate() {
            let low = u128::from(byte & 0x7f);
            if i == 18 && low > 3 {
                break;
            }
            value |= low << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Error::corrupt("a number"))
    }

    /// A varint that counts or measures something in memory.
    pub fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| Error::corrupt("a length"))
    }

    pub fn varint32(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| Error::corrupt("a number"))
    }

    pub fn zigzag(&mut self) -> Result<i64> {
        let v = self.varint()?;
        Ok((v >> 1).cast_signed() ^ -((v & 1).cast_signed()))
    }

    pub fn zigzag128(&mut self) -> Result<i128> {
        let v = self.varint128()?;
        Ok((v >> 1).cast_signed() ^ -((v & 1).cast_signed()))
    }

    /// Errors unless everything was read.
    pub fn end(&self, what: &str) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::corrupt(format!("{what}: bytes left over"))) }
    }
}

fn short() -> Error {
    Error::corrupt("it ends too early")
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

pub(crate) fn put_varint128(out: &mut Vec<u8>, mut value: u128) {
    loop {
        match u64::try_from(value) {
            Ok(narrow) => return put_varint(out, narrow),
            Err(_) => out.push(value.to_le_bytes().first().copied().unwrap_or(0) | 0x80),
        }
        value >>= 7;
    }
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes().first().copied().unwrap_or(0)
}

pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn put_zigzag128(out: &mut Vec<u8>, value: i128) {
    put_varint128(out, ((value << 1) ^ (value >> 127)).cast_unsigned());
}
