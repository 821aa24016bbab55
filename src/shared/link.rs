//! A link's two directions over a Unix socket: frames, and descriptors that go with them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::frame::Frame;
use super::outbox::{Outbox, Said};

/// Taken from the socket at a time.
const RECEIVE_BYTES: usize = 128 * Frame::BYTES;
/// Descriptors that one receive may bring; the system passes on at most those of one send.
const DESCRIPTORS_AT_ONCE: usize = 4;
/// Descriptors that are there before their frames are: a peer that sends more breaks the rules.
const DESCRIPTORS_MAX: usize = 16;

/// Descriptors are not for programs that are started meanwhile.
#[cfg(target_os = "linux")]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::empty();
/// A peer that is gone is an error, not a signal.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Splits a connection into its two directions. It is open as long as any of them, or an [`OpenLink`] of them.
#[must_use]
pub fn link(socket: UnixStream) -> (LinkReader, LinkWriter) {
    let socket = Arc::new(socket);
    let reader = LinkReader { socket: socket.clone(), received: BytesMut::new(), descriptors: VecDeque::new() };
    (reader, LinkWriter { socket })
}

/// Keeps a link open, though nobody may listen any more. Dropped, it ends the link, also where forked children have copies
/// of its socket.
#[derive(Debug)]
pub struct OpenLink(Arc<UnixStream>);

impl Drop for OpenLink {
    fn drop(&mut self) {
        // One that has ended already needs no telling.
        let _ = rustix::net::shutdown(self.0.as_ref(), rustix::net::Shutdown::Both);
    }
}

/// What the peer says.
#[derive(Debug)]
pub struct LinkReader {
    socket: Arc<UnixStream>,
    received: BytesMut,
    descriptors: VecDeque<OwnedFd>,
}

impl LinkReader {
    /// The next frame, with the descriptor that belongs to it; none when the peer has ended the link.
    ///
    /// # Errors
    /// The system's; `InvalidData` for what is no frame, or a descriptor that is missing or one too many.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> io::Result<Option<(Frame, Option<OwnedFd>)>> {
        loop {
            if let Some(bytes) = self.received.first_chunk() {
                let frame = Frame::from_bytes(bytes).ok_or(io::ErrorKind::InvalidData)?;
                self.received.advance(Frame::BYTES);
                let descriptor =
                    if frame.has_descriptor() { Some(self.descriptors.pop_front().ok_or(io::ErrorKind::InvalidData)?) } else { None };
                return Ok(Some((frame, descriptor)));
            }
            if !self.receive().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for the end of the link, whatever comes before.
    pub async fn ended(&mut self) {
        while matches!(self.receive().await, Ok(true)) {
            self.received.clear();
            self.descriptors.clear();
        }
    }

    /// Takes in what is there; false at the end.
    async fn receive(&mut self) -> io::Result<bool> {
        let Self { socket, received, descriptors } = self;
        socket
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; RECEIVE_BYTES];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let got = recvmsg(socket.as_ref(), &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, CLOSED_ON_EXEC)?;
                received.extend_from_slice(&bytes[..got.bytes]);
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        descriptors.extend(rights);
                    }
                }
                if descriptors.len() > DESCRIPTORS_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(got.bytes > 0)
            })
            .await
    }
}

/// What is said to the peer.
#[derive(Debug)]
pub struct LinkWriter {
    socket: Arc<UnixStream>,
}

impl LinkWriter {
    /// Sends what comes into the outbox, until that cannot be done.
    ///
    /// # Errors
    /// Those of [`Outbox::take`] and [`send`](Self::send).
    pub async fn send_from(&self, outbox: &Outbox) -> io::Result<()> {
        loop {
            self.send(&outbox.take().await?).await?;
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&self) {
        // One that has ended already needs no telling.
        let _ = rustix::net::shutdown(self.socket.as_ref(), rustix::net::Shutdown::Write);
    }

    /// Keeps the link open.
    #[must_use]
    pub fn hold_open(&self) -> OpenLink {
        OpenLink(self.socket.clone())
    }

    /// Sends all of it, in order.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Cancel safety
    /// None: a part may have been sent.
    pub async fn send(&self, all: &[Said]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for said in all {
            if let Some(descriptor) = said.descriptor() {
                self.send_bytes(&mut bytes, None).await?;
                bytes.extend_from_slice(&said.frame().to_bytes());
                self.send_bytes(&mut bytes, Some(descriptor)).await?;
            } else {
                bytes.extend_from_slice(&said.frame().to_bytes());
            }
        }
        self.send_bytes(&mut bytes, None).await
    }

    /// Sends the bytes, the descriptor with the first of them.
    async fn send_bytes(&self, bytes: &mut BytesMut, mut descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.socket.async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let descriptors = descriptor.as_slice();
                if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(sendmsg(self.socket.as_ref(), &[IoSlice::new(bytes)], &mut ancillary, NO_SIGNAL)?)
            });
            let sent = sent.await?;
            bytes.advance(sent);
            descriptor = None;
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd as _;

    use bowstring_arena::{Arena, View};

    use super::*;

    #[tokio::test]
    async fn descriptors_arrive_with_the_frames_that_they_belong_to() {
        let (one, other) = UnixStream::pair().expect("two sockets");
        let ((_, writer), (mut reader, _)) = (link(one), link(other));
        let arenas: Vec<_> = (1..=5).map(|pages| Arena::create(pages * 4096).expect("memory")).collect();
        let mut said = vec![Said::Word(Frame::Hello { version: 1 })];
        for (arena, number) in arenas.iter().zip(0..) {
            said.push(Said::Offer(Frame::Offer { arena: number }, arena.clone()));
            said.extend((0..100).map(|start| Said::Word(Frame::Free { arena: number, start })));
        }
        let expected: Vec<_> = said.iter().map(Said::frame).collect();
        let sending = tokio::spawn(async move { writer.send(&said).await });
        let mut frames = Vec::new();
        while let Some((frame, descriptor)) = reader.next().await.expect("well formed") {
            if let (Frame::Offer { arena }, Some(descriptor)) = (frame, descriptor) {
                let bytes = View::open(descriptor.as_fd()).expect("an arena").bytes();
                assert_eq!(bytes, arenas[usize::try_from(arena).expect("small")].bytes());
            }
            frames.push(frame);
        }
        assert_eq!(frames, expected);
        sending.await.expect("does not panic").expect("sends");
    }

    #[tokio::test]
    async fn what_is_no_frame_and_a_missing_descriptor_are_errors() {
        let offer = Frame::Offer { arena: 1 }.to_bytes();
        for bytes in [[0xff; Frame::BYTES], offer] {
            let (one, other) = UnixStream::pair().expect("two sockets");
            one.try_write(&bytes).expect("room");
            let (mut reader, _writer) = link(other);
            assert_eq!(reader.next().await.expect_err("refused").kind(), io::ErrorKind::InvalidData);
        }
    }
}
