//! Inputs, and those that are kept in files: what once failed, and Arrow's own regressions.

use std::fs;
use std::path::PathBuf;

/// The parts of an input, for instance a header, a body, a header: each is mutated for itself.
pub(crate) type Input = Vec<Vec<u8>>;

/// The kept inputs of a target: files `.parts` by this engine, `.stream` in Arrow's stream format, and any other as one part.
pub(crate) fn kept(target: &str) -> Vec<Input> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let inputs = files.iter().map(|file| {
        let bytes = fs::read(file).unwrap();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("parts") => from_file(&bytes),
            Some("stream") => from_stream(&bytes),
            _ => vec![bytes],
        }
    });
    inputs.collect()
}

/// Each part behind its length.
pub(crate) fn to_file(input: &Input) -> Vec<u8> {
    let part = |part: &Vec<u8>| [&u32::try_from(part.len()).unwrap().to_le_bytes()[..], part].concat();
    input.iter().flat_map(part).collect()
}

fn from_file(mut bytes: &[u8]) -> Input {
    let mut input = Input::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        input.push(part.to_vec());
        bytes = rest;
    }
    input
}

/// The headers and bodies of an Arrow stream, as far as they can be told from each other.
pub(crate) fn from_stream(mut bytes: &[u8]) -> Input {
    let mut input = Input::new();
    // Of a file, which goes on like a stream.
    bytes = bytes.strip_prefix(b"ARROW1\0\0").unwrap_or(bytes);
    loop {
        bytes = bytes.strip_prefix(&[0xff; 4]).unwrap_or(bytes);
        let Some((length, rest)) = bytes.split_first_chunk() else { return input };
        let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
        if length == 0 {
            return input;
        }
        let (header, rest) = rest.split_at(length);
        let body = arrow_ipc::root_as_message(header).map_or(0, |message| usize::try_from(message.bodyLength()).unwrap_or(0));
        let (body, rest) = rest.split_at(body.min(rest.len()));
        input.extend([header.to_vec(), body.to_vec()]);
        bytes = rest;
    }
}
