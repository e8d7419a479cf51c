//! Writer of Protocol Buffers messages.
//!
//! A message is the concatenation of its fields in any order. Field numbers and types are those of
//! `onnx.proto3`, which this room writes and never reads.

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// Adds an integer or enumeration. A negative number takes ten bytes, as the format prescribes.
    pub fn int(&mut self, field: u64, value: i64) -> &mut Self {
        self.tag(field, 0);
        self.varint(value as u64);
        self
    }

    pub fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.tag(field, 5);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes, or a part encoded before.
    pub fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.bytes.extend(value);
        self
    }

    pub fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(&mut self, field: u64, value: &Self) -> &mut Self {
        self.bytes(field, &value.bytes)
    }

    /// Adds all fields of another message to this one.
    pub fn extend(&mut self, fields: &Self) -> &mut Self {
        self.bytes.extend(&fields.bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_bytes_of_the_specification() {
        // The examples of protobuf.dev/programming-guides/encoding.
        let mut message = Message::default();
        message.int(1, 150).text(2, "testing");
        assert_eq!(message.len(), 12);
        assert_eq!(message.into_bytes(), *b"\x08\x96\x01\x12\x07testing");
        let mut inner = Message::default();
        inner.int(1, 150);
        let mut outer = Message::default();
        outer.message(3, &inner).float(4, 1.0).int(5, -1);
        let mut wanted = b"\x1a\x03\x08\x96\x01\x25\x00\x00\x80\x3f\x28".to_vec();
        wanted.extend([0xff; 9]);
        wanted.push(1);
        assert_eq!(outer.into_bytes(), wanted);
    }
}
