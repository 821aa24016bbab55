//! Values that are no objects and no lists, as rows write them.

use std::borrow::Cow;

use arrow_schema::DataType;

use super::times;
use crate::formats::columns::Column;
use crate::formats::scalar::{Scalar, shown};

/// A value as the row has it, without space around it, into its column.
pub(super) fn push(raw: &str, column: &mut Column, lenient: bool) -> Result<(), String> {
    let to = column.data_type().clone();
    match raw.as_bytes().first() {
        Some(b'n') => column.null(),
        Some(b'"') => unescaped(raw).and_then(|text| push_text(&text, column, &to, lenient)),
        Some(b't') => column.push(Scalar::Bool(true), lenient),
        Some(b'f') => column.push(Scalar::Bool(false), lenient),
        Some(b'[') => Err(format!("it is {to}, and the row has a list")),
        Some(b'{') => Err(format!("it is {to}, and the row has an object")),
        _ => column.push(Scalar::Number(raw), lenient),
    }
}

fn push_text(text: &str, column: &mut Column, to: &DataType, lenient: bool) -> Result<(), String> {
    match to {
        to if to.is_binary() => {
            let bytes = unhexed(text).ok_or_else(|| format!("it is {to}, and the text {} is not hexadecimal", shown(text)))?;
            column.push(Scalar::Bytes(&bytes), lenient)
        }
        // A duration is a number of its unit, which may be text as other numbers may.
        DataType::Duration(_) => column.push(Scalar::Text(text), lenient),
        to if to.is_temporal() => column.push(times::parsed(text, to)?, lenient),
        // As text a decimal passes through readers that would make floats of numbers.
        to if to.is_decimal() => column.push(Scalar::Text(text), true),
        _ => column.push(Scalar::Text(text), lenient),
    }
}

/// A string with its quotes. serde_json has found its end, and looked at what is escaped only if there is any.
fn unescaped(raw: &str) -> Result<Cow<'_, str>, String> {
    match raw.get(1..raw.len() - 1) {
        Some(text) if !text.contains('\\') => Ok(Cow::Borrowed(text)),
        _ => serde_json::from_str(raw).map(Cow::Owned).map_err(|error| error.to_string()),
    }
}

fn unhexed(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
