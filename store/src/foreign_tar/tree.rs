//! The tree that an archive would unpack to, played through in memory.

use std::collections::{BTreeMap, HashMap};

use super::error::refuse;
use super::member::{Member, MemberKind};
use super::sparse::{Data, Extent};
use crate::canonical_tar::{self, Change, Changes, Entry, EntryList, Kind, MAX_ENTRIES, Position};
use crate::error::Result;
use crate::sharded::Sharded;

/// The place of a file is where its content begins or, with this bit, the number of a
/// sparse file's pieces. No file is so long that its bytes need it.
pub(super) const SPARSE: u64 = 1 << 63;

/// Mode of a directory that is in no header.
const IMPLIED_MODE: u32 = 0o755;

/// Names, and what they lead to. Several names lead to one node: hard links.
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Sharded<Box<[u8]>, u32>,
}

#[derive(Clone, Debug)]
struct Node {
    kind: NodeKind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    fraction: bool,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    offset: u64,
}

#[derive(Clone, Debug)]
enum NodeKind {
    Directory {
        /// Whether names below it were added.
        used: bool,
        /// Whether no header has said anything about it yet.
        implied: bool,
    },
    File {
        size: u64,
        data: Data,
    },
    Symlink {
        target: Vec<u8>,
    },
    Dropped(Change),
    /// A hard link to a name that was not there yet.
    Pending {
        target: Vec<u8>,
    },
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            names: Sharded::default(),
        };
        tree.bind(Vec::new(), Node::implied(0));
        tree
    }

    /// Takes the next member of the archive.
    pub(super) fn add(&mut self, member: Member, changes: &mut Changes) -> Result<()> {
        let (path, offset) = (member.path.clone(), member.offset);
        let node = Node::of(member);
        if path.is_empty() {
            return self.root(node, changes);
        }
        self.enter(&path, offset)?;
        let there = self.node(&path);
        if let Some(there) = there {
            let old = &self.nodes[there].kind;
            match (old, &node.kind) {
                (NodeKind::Directory { used, implied }, NodeKind::Directory { .. }) => {
                    if !implied {
                        changes.add(Change::Duplicate, &path);
                    }
                    let used = *used;
                    self.nodes[there] = node;
                    self.nodes[there].kind = NodeKind::Directory {
                        used,
                        implied: false,
                    };
                    return Ok(());
                }
                (NodeKind::Directory { used: true, .. }, _) => {
                    let why = "it takes the place of a directory that is not empty";
                    return Err(refuse(&path, why, offset));
                }
                // A link to itself changes nothing.
                (_, NodeKind::Pending { target }) if *target == path => return Ok(()),
                _ => changes.add(Change::Duplicate, &path),
            }
        }
        let NodeKind::Pending { target } = &node.kind else {
            self.bind(path, node);
            return Ok(());
        };
        // Now, and not at the end: what has this name later is another file.
        match self.node(target) {
            None => {
                self.bind(path, node);
            }
            Some(target) => match &self.nodes[target].kind {
                NodeKind::Directory { .. } => {
                    return Err(refuse(&path, "it is a hard link to a directory", offset));
                }
                // An image links regular files only; the copy says the same.
                NodeKind::Symlink { .. } => {
                    let copy = self.nodes[target].clone();
                    self.bind(path, copy);
                }
                _ => {
                    self.names.insert(path.into(), target as u32);
                }
            },
        }
        self.limit(offset)
    }

    fn root(&mut self, node: Node, changes: &mut Changes) -> Result<()> {
        let NodeKind::Directory { .. } = node.kind else {
            return Err(refuse(b"", "the root is not a directory", node.offset));
        };
        let root = &mut self.nodes[0];
        let was = std::mem::replace(root, node);
        if !matches!(was.kind, NodeKind::Directory { implied: true, .. }) {
            changes.add(Change::Duplicate, b"");
        }
        root.kind = NodeKind::Directory {
            used: true,
            implied: false,
        };
        Ok(())
    }

    /// Makes sure that what `path` is in are directories.
    fn enter(&mut self, path: &[u8], offset: u64) -> Result<()> {
        let mut missing = Vec::new();
        let mut below = path;
        while let Some(parent) = canonical_tar::parent(below) {
            match self.node(parent).map(|at| &mut self.nodes[at].kind) {
                Some(NodeKind::Directory { used, .. }) => {
                    *used = true;
                    break;
                }
                Some(_) => {
                    let why = "it is below something that is not a directory";
                    return Err(refuse(path, why, offset));
                }
                None => missing.push(parent.to_vec()),
            }
            below = parent;
        }
        for parent in missing {
            let mut node = Node::implied(offset);
            node.kind = NodeKind::Directory {
                used: true,
                implied: true,
            };
            self.bind(parent, node);
        }
        self.limit(offset)
    }

    fn bind(&mut self, path: Vec<u8>, node: Node) {
        self.names.insert(path.into(), self.nodes.len() as u32);
        self.nodes.push(node);
    }

    /// The node that a name leads to.
    fn node(&self, path: &[u8]) -> Option<usize> {
        self.names.get(path).map(|node| *node as usize)
    }

    fn limit(&self, offset: u64) -> Result<()> {
        if self.names.len() as u64 > MAX_ENTRIES {
            return Err(refuse(b"", "there are too many entries", offset));
        }
        Ok(())
    }

    /// What a name leads to when all is there.
    fn resolve(&self, path: &[u8], node: usize) -> Result<usize> {
        let mut at = node;
        // A chain of links is no longer than there are names, or it is a circle.
        for _ in 0..=self.names.len() {
            let NodeKind::Pending { target } = &self.nodes[at].kind else {
                return Ok(at);
            };
            at = self.node(target).ok_or_else(|| {
                let why = "the hard link's target is not in the archive";
                refuse(path, why, self.nodes[node].offset)
            })?;
        }
        let why = "the hard link leads to itself";
        Err(refuse(path, why, self.nodes[node].offset))
    }

    /// The entries in canonical order, and the pieces of the sparse files.
    pub(super) fn finish(
        self,
        epoch: Option<u64>,
        changes: &mut Changes,
    ) -> Result<(EntryList, Vec<Box<[Extent]>>)> {
        let is_directory = |node: &Node| matches!(node.kind, NodeKind::Directory { .. });
        let is_pending =
            |node: u32| matches!(self.nodes[node as usize].kind, NodeKind::Pending { .. });
        // By name, so that of several errors it is always the same one.
        let mut links: Vec<_> = self
            .names
            .iter()
            .filter(|(_, at)| is_pending(**at))
            .collect();
        links.sort_unstable();
        let mut resolved: HashMap<u32, u32> = HashMap::new();
        for (path, node) in links {
            let at = self.resolve(path, *node as usize)?;
            if is_directory(&self.nodes[at]) {
                let why = "it is a hard link to a directory";
                return Err(refuse(path, why, self.nodes[*node as usize].offset));
            }
            resolved.insert(*node, at as u32);
        }
        // An archive may have millions of names: none is in memory twice.
        let Self { nodes, names } = self;
        let mut names: Vec<(Box<[u8]>, u32)> = names
            .into_iter()
            .map(|(path, node)| (path, resolved.get(&node).copied().unwrap_or(node)))
            .collect();
        names.sort_unstable_by(|(a, at), (b, other)| {
            let (at, other) = (&nodes[*at as usize], &nodes[*other as usize]);
            let (at, other) = (is_directory(at), is_directory(other));
            canonical_tar::order((a, at), (b, other))
        });
        // Of each file, the entry that has its content.
        let mut firsts: Vec<Option<Position>> = vec![None; nodes.len()];
        let mut list = EntryList::default();
        let mut sparse = Vec::new();
        for (path, at) in names {
            let path = path.into_vec();
            let node = &nodes[at as usize];
            let first = firsts[at as usize];
            let mut xattrs = node.xattrs.clone();
            let mut place = 0;
            let kind = match &node.kind {
                NodeKind::Dropped(change) => {
                    changes.add(*change, &path);
                    continue;
                }
                NodeKind::Directory { implied, .. } => {
                    if *implied {
                        changes.add(Change::MissingDirectory, &path);
                    }
                    Kind::Directory
                }
                NodeKind::Symlink { target } => Kind::Symlink {
                    target: target.clone(),
                },
                // Resolved above.
                NodeKind::Pending { .. } => continue,
                NodeKind::File { size, .. } if first.is_some() => {
                    xattrs.clear();
                    Kind::File { size: *size }
                }
                NodeKind::File { size, data } => {
                    place = match data {
                        Data::At(at) => *at,
                        Data::Sparse(extents) => {
                            sparse.push(extents.clone());
                            SPARSE | (sparse.len() - 1) as u64
                        }
                    };
                    Kind::File { size: *size }
                }
            };
            let mtime = changes.time((node.mtime, node.fraction), epoch, &path);
            let symlink = matches!(kind, Kind::Symlink { .. });
            let mode = if symlink { 0o777 } else { node.mode };
            xattrs.retain(|name, value| {
                let keep = canonical_tar::is_installable(name, value, &kind, mode);
                if !keep {
                    changes.add(Change::Xattr, &path);
                }
                keep
            });
            let entry = Entry {
                path,
                kind,
                mode,
                uid: node.uid,
                gid: node.gid,
                mtime,
                xattrs,
            };
            let position = list.push(&entry, place, first);
            if matches!(node.kind, NodeKind::File { .. }) {
                firsts[at as usize] = first.or(Some(position));
            }
        }
        Ok((list, sparse))
    }
}

impl Node {
    fn implied(offset: u64) -> Self {
        Self {
            kind: NodeKind::Directory {
                used: false,
                implied: true,
            },
            mode: IMPLIED_MODE,
            uid: 0,
            gid: 0,
            mtime: 0,
            fraction: false,
            xattrs: BTreeMap::new(),
            offset,
        }
    }

    fn of(member: Member) -> Self {
        let kind = match member.kind {
            MemberKind::Directory => NodeKind::Directory {
                used: false,
                implied: false,
            },
            MemberKind::File { size, data } => NodeKind::File { size, data },
            MemberKind::Symlink { target } => NodeKind::Symlink { target },
            MemberKind::Hardlink { target } => NodeKind::Pending { target },
            MemberKind::Dropped(change) => NodeKind::Dropped(change),
        };
        Self {
            kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            fraction: member.fraction,
            xattrs: member.xattrs,
            offset: member.offset,
        }
    }
}
