//! What else S3 says with a refusal, besides its code and its message.

use serde::{Deserialize, Serialize};

use super::FieldLines;

/// The most bytes of each that are kept: a refusal is a few lines.
const MOST: usize = 8 * 1024;

/// The header fields and the document of a refusal, as S3 sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its own header fields, `x-amz-delete-marker` for one.
    pub fields: FieldLines,
    /// The document; empty if there was none, as with every HEAD.
    pub xml: Box<str>,
}

impl Said {
    /// `None` if there is nothing. What is longer than any refusal by S3 is dropped.
    pub fn new(fields: FieldLines, xml: &str) -> Option<Self> {
        let fields = if fields.as_bytes().len() > MOST {
            FieldLines::default()
        } else {
            fields
        };
        let xml = if xml.len() > MOST { "" } else { xml };
        let said = Self {
            fields,
            xml: xml.into(),
        };
        (said != Self::default()).then_some(said)
    }

    /// Its size in memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        (size_of::<Self>() + self.fields.as_bytes().len() + self.xml.len()) as u64
    }
}
