//! A writer of databases of [bbolt](https://github.com/etcd-io/bbolt), which Trivy keeps its
//! advisories in.
//!
//! ```text
//! file     meta page 0, meta page 1, freelist, root leaf, a leaf for each bucket
//! page     id u64, flags u16, count u16, overflow u32, then `count` elements, then their bytes
//! element  flags u32 (1: a bucket), distance from itself to its key u32, sizes of key and value u32
//! bucket   page of its leaf u64, sequence u64; page 0: the leaf follows at once, "inline"
//! meta     magic, version, size of a page, flags, root bucket, freelist, pages, transaction, FNV-1a
//! ```
//!
//! Numbers are little-endian, keys are sorted. A leaf may be as long as it wants: the pages that it
//! takes beside its first are its overflow. So no branches are needed.

use std::collections::BTreeMap;

const PAGE: usize = 4096;
const PAGE_HEAD: usize = 16;
const ELEMENT: usize = 16;

const LEAF: u16 = 2;
const META: u16 = 4;
const FREELIST: u16 = 16;

/// A bucket of buckets or of values.
#[derive(Default)]
pub(super) struct Bucket(BTreeMap<Vec<u8>, Entry>);

enum Entry {
    Value(Vec<u8>),
    Bucket(Bucket),
}

impl Bucket {
    /// The bucket of that name in this one, made where it is not.
    pub(super) fn bucket(&mut self, name: &str) -> &mut Self {
        let made = || Entry::Bucket(Self::default());
        match self.0.entry(name.into()).or_insert_with(made) {
            Entry::Bucket(bucket) => bucket,
            Entry::Value(_) => panic!("{name} is a value"),
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &serde_json::Value) {
        let value = Entry::Value(value.to_string().into_bytes());
        self.0.insert(key.into(), value);
    }

    /// The database in which this is the root.
    pub(super) fn database(&self) -> Vec<u8> {
        let mut leaves = Vec::new();
        let first = 4;
        let mut next = first;
        let root = self.leaf(3, &mut |bucket| {
            let id = next;
            let leaf = bucket.leaf(id, &mut Bucket::inline);
            next += pages(&leaf);
            leaves.push(leaf);
            head(id, 0).to_vec()
        });
        assert_eq!(pages(&root), 1, "the root has too many buckets");
        let mut file = Vec::new();
        for id in [0, 1] {
            push_page(&mut file, meta(id, next));
        }
        push_page(&mut file, page_head(2, FREELIST, 0, 0));
        push_page(&mut file, root);
        for leaf in leaves {
            push_page(&mut file, leaf);
        }
        assert_eq!(file.len(), usize::try_from(next).unwrap() * PAGE);
        file
    }

    /// A bucket inside its value.
    fn inline(&self) -> Vec<u8> {
        [head(0, 0).to_vec(), self.leaf(0, &mut Self::inline)].concat()
    }

    fn leaf(&self, id: u64, place: &mut dyn FnMut(&Self) -> Vec<u8>) -> Vec<u8> {
        let mut elements = Vec::new();
        let mut bytes = Vec::new();
        for (at, (key, entry)) in self.0.iter().enumerate() {
            let (flags, value) = match entry {
                Entry::Value(value) => (0, value.clone()),
                Entry::Bucket(bucket) => (1, place(bucket)),
            };
            let distance = (self.0.len() - at) * ELEMENT + bytes.len();
            for number in [flags, small(distance), small(key.len()), small(value.len())] {
                elements.extend(number.to_le_bytes());
            }
            bytes.extend(key);
            bytes.extend(value);
        }
        let length = PAGE_HEAD + elements.len() + bytes.len();
        let overflow = if id == 0 {
            0
        } else {
            small(length.div_ceil(PAGE) - 1)
        };
        let count = u16::try_from(self.0.len()).expect("a leaf has at most 65,535 entries");
        [page_head(id, LEAF, count, overflow), elements, bytes].concat()
    }
}

fn page_head(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut head = id.to_le_bytes().to_vec();
    head.extend(flags.to_le_bytes());
    head.extend(count.to_le_bytes());
    head.extend(overflow.to_le_bytes());
    head
}

/// The head of a bucket.
fn head(page: u64, sequence: u64) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&page.to_le_bytes());
    head[8..].copy_from_slice(&sequence.to_le_bytes());
    head
}

fn meta(id: u64, pages: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for number in [0xED0C_DAED, 2, small(PAGE), 0] {
        meta.extend(number.to_le_bytes());
    }
    meta.extend(head(3, 0));
    for number in [2, pages, id] {
        meta.extend(number.to_le_bytes());
    }
    let sum = meta.iter().fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    meta.extend(sum.to_le_bytes());
    [page_head(id, META, 0, 0), meta].concat()
}

fn pages(leaf: &[u8]) -> u64 {
    leaf.len().div_ceil(PAGE) as u64
}

fn push_page(file: &mut Vec<u8>, page: Vec<u8>) {
    let end = file.len() + page.len().next_multiple_of(PAGE);
    file.extend(page);
    file.resize(end, 0);
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("nothing in it is so large")
}
