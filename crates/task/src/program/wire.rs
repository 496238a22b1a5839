//! Frames between a process and its helper: length (4 bytes, little endian, of what follows), kind (1 byte), payload.

use std::io::{self, Read, Write};

/// Longest payload in bytes; a program that returns more is stopped.
pub const MOST_BYTES: usize = 16 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Its content.
    pub payload: Vec<u8>,
}

/// Writes a frame in one piece.
pub fn write(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len() + 1).map_err(|_| too_long(payload.len()))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(payload);
    to.write_all(&bytes)
}

/// Reads a frame, and not a byte more.
pub fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MOST_BYTES + 1 {
        return Err(too_long(length));
    }
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    // Grows with what arrives, not with what is announced.
    let mut payload = Vec::new();
    from.take(length as u64 - 1).read_to_end(&mut payload)?;
    if payload.len() + 1 < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Frame { kind: kind[0], payload })
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_bad_ones_are_errors() {
        let mut bytes = Vec::new();
        write(&mut bytes, b'V', b"12").unwrap();
        write(&mut bytes, b'D', b"").unwrap();
        let mut rest = bytes.as_slice();
        assert_eq!(read(&mut rest).unwrap(), Frame { kind: b'V', payload: b"12".to_vec() });
        assert_eq!(read(&mut rest).unwrap(), Frame { kind: b'D', payload: Vec::new() });
        assert_eq!(read(&mut rest).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&mut &bytes[..6]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for length in [0u32, u32::MAX] {
            assert_eq!(
                read(&mut length.to_le_bytes().as_slice()).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
    }
}
