//! Hashing the canonical tar as it is made; nothing of it is kept.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::Digest as _;

use crate::digest::{Blake3, Sha256};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are handed to the hashing thread at once.
const PIECE: usize = 1 << 20;

/// Pieces that may wait for it.
const QUEUE: usize = 8;

/// The end that is written to. What was written last is hashed when it is dropped.
pub(super) struct TarHasher {
    pieces: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

/// What the whole tar was.
pub(super) struct Tar {
    pub(super) blake3: Blake3,
    pub(super) sha256: Sha256,
    pub(super) size: u64,
}

impl TarHasher {
    /// Starts the thread that hashes. It ends when the hasher is dropped.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
    ) -> (Self, ScopedJoinHandle<'scope, Tar>) {
        let (pieces, queue) = mpsc::sync_channel(QUEUE);
        let hashing = scope.spawn(move || hash(&queue));
        (
            Self {
                pieces,
                piece: Vec::with_capacity(PIECE),
            },
            hashing,
        )
    }

    /// Appends bytes to the tar.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
                let lost = |_| Error::new(ErrorKind::Io, "the thread that hashes has died");
                self.pieces.send(piece).map_err(lost)?;
            }
        }
        Ok(())
    }
}

impl Drop for TarHasher {
    fn drop(&mut self) {
        // If the thread has died, joining it says so.
        let _ = self.pieces.send(std::mem::take(&mut self.piece));
    }
}

fn hash(pieces: &Receiver<Vec<u8>>) -> Tar {
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
    for piece in pieces {
        blake3.update(&piece);
        sha256.update(&piece);
    }
    Tar {
        blake3: blake3.finalize().into(),
        sha256: Sha256::finish(sha256),
        size: blake3.count(),
    }
}
