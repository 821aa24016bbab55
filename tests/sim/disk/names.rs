//! The names on a simulated disk: as they are, and as they may be after the power has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rand::Rng;
use rand::rngs::StdRng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(u64),
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, Node>,
    /// What is on the disk for sure.
    synced: BTreeMap<String, Node>,
    /// What was done since, in order; each of them may be on the disk or not.
    changes: Vec<Change>,
    next_file: u64,
}

/// Names that change together; none: gone. All are of one folder.
#[derive(Debug, Clone)]
struct Change(Vec<(String, Option<Node>)>);

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Node> {
        if path.is_empty() { Some(Node::Folder) } else { self.now.get(path).copied() }
    }

    pub(super) fn check_folder(&self, path: &str) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    pub(super) fn put(&mut self, path: &str, node: Node) {
        self.change(Change(vec![(path.to_owned(), Some(node))]));
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.change(Change(vec![(path.to_owned(), None)]));
    }

    pub(super) fn make_folders(&mut self, path: &str) {
        let ends = path.char_indices().filter(|(_, character)| *character == '/').map(|(end, _)| end).chain([path.len()]);
        for folder in ends.map(|end| &path[..end]).collect::<Vec<_>>() {
            if self.get(folder).is_none() {
                self.put(folder, Node::Folder);
            }
        }
    }

    /// Within a folder it is done wholly or not at all.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(parent(from), parent(to), "only renames within a folder are simulated");
        self.change(Change(vec![(to.to_owned(), Some(node)), (from.to_owned(), None)]));
        Ok(())
    }

    pub(super) fn remove_folder(&mut self, path: &str) {
        let below = format!("{path}/");
        let mut gone: Vec<_> = self.now.keys().filter(|name| name.starts_with(&below)).cloned().collect();
        // What is in a folder goes before it does.
        gone.reverse();
        gone.iter().for_each(|name| self.remove(name));
        self.remove(path);
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.check_folder(path)?;
        Ok(self.now.keys().filter(|name| parent(name) == path).map(|name| name[path.len()..].trim_start_matches('/').to_owned()).collect())
    }

    pub(super) fn sync(&mut self, folder: &str) {
        let (done, rest) = std::mem::take(&mut self.changes).into_iter().partition(|change: &Change| change.folder() == folder);
        self.changes = rest;
        let done: Vec<Change> = done;
        done.iter().for_each(|change| change.apply(&mut self.synced));
    }

    pub(super) fn lose_power(&mut self, random: &mut StdRng) {
        let chance = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        for change in std::mem::take(&mut self.changes) {
            if random.random_bool(chance) {
                change.apply(&mut self.synced);
            }
        }
        // Nothing is in a folder that is not there.
        let all = self.synced.clone();
        let is_there = |path: &str| path.is_empty() || all.get(path) == Some(&Node::Folder);
        self.synced.retain(|path, _| above(path).all(is_there));
        self.now.clone_from(&self.synced);
    }

    /// The files that have a name.
    pub(super) fn files(&self) -> BTreeSet<u64> {
        let number = |node: &Node| match node {
            Node::File(number) => Some(*number),
            Node::Folder => None,
        };
        self.now.values().filter_map(number).collect()
    }

    pub(super) fn files_that_end_with(&self, end: &str) -> Vec<u64> {
        let ends = self.now.iter().filter(|(path, _)| path.ends_with(end));
        ends.filter_map(|(_, node)| if let Node::File(number) = node { Some(*number) } else { None }).collect()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.changes.push(change);
    }
}

impl Change {
    fn folder(&self) -> &str {
        parent(&self.0[0].0)
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        for (path, node) in &self.0 {
            match node {
                Some(node) => drop(names.insert(path.clone(), *node)),
                None => drop(names.remove(path)),
            }
        }
    }
}

/// The folder that a path is in.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// All folders that a path is in.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().filter(|(_, character)| *character == '/').map(|(end, _)| &path[..end])
}
