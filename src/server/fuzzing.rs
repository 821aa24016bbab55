//! What `tests/fuzz` looks at of the server that takes bytes before HTTP/2 does.

use std::path::Path;

use super::authority::{AuthorityMender, SocketAuthority};

/// Passes a connection's bytes, in pieces of these sizes in turn, through what mends the authority of a Unix socket's path.
pub fn mend_authority(path: &Path, mut bytes: &mut [u8], sizes: &[usize]) {
    let mut mender = AuthorityMender::new(SocketAuthority::of(path));
    for size in sizes.iter().cycle() {
        if bytes.is_empty() || sizes.iter().all(|size| *size == 0) {
            break;
        }
        let size = (*size).min(bytes.len());
        let (piece, rest) = std::mem::take(&mut bytes).split_at_mut(size);
        mender.pass(piece);
        bytes = rest;
    }
}
