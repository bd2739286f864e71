//! Layouts: what is read is every byte of it, the references add up, and in its
//! place content of zeros gives a canonical tar.

use store::canonical_tar;
use store::chunk::{MAX, MIN};

use crate::{memory, tar};

pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    let mut mended = bytes.to_vec();
    tar::mend(&mut mended);
    check(&mended);
    mended.extend([0; 1024]);
    check(&mended);
}

fn check(bytes: &[u8]) {
    let Some(items) = memory::bounded(bytes, 3 << 20, 40, store::fuzz::layout) else {
        return;
    };
    let mut again = b"imglyt\x00\x01".to_vec();
    let mut tar = Vec::new();
    for (entry, header, chunks) in &items {
        assert_eq!(canonical_tar::encode(entry).expect("an entry"), *header);
        again.extend(header);
        for chunk in chunks {
            again.extend(chunk.digest().bytes());
            again.extend(chunk.len().to_le_bytes());
        }
        let lengths: Vec<u64> = chunks.iter().map(|chunk| chunk.len().into()).collect();
        assert_eq!(lengths.iter().sum::<u64>(), entry.size());
        assert!(lengths.iter().all(|len| (1..=MAX as u64).contains(len)));
        if entry.size() <= MAX as u64 {
            assert!(lengths.len() <= 1);
        }
        let but_last = lengths.split_last().map_or(&[][..], |(_, before)| before);
        assert!(but_last.iter().all(|len| *len >= MIN as u64));
        if tar.len() as u64 + entry.size() < 1 << 22 {
            tar.extend(header);
            tar.resize(tar.len() + entry.size() as usize, 0);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    again.extend([0; 1024]);
    assert!(again == bytes, "two layouts for one image");
    let size: u64 = items.iter().map(|(entry, ..)| entry.size()).sum();
    if size < 1 << 21 {
        tar.extend([0; 1024]);
        let entries = tar::read(&tar).expect("a layout of a canonical tar");
        assert_eq!(entries.len(), items.len());
    }
}
