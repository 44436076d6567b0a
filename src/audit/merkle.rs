//! Merkle trees over the events of a seal, and proofs that one of them is in it (RFC 9162, section 2.1).

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// All nodes of a tree, the leaves first.
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

/// The hash of a leaf.
#[must_use]
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new_with_prefix([0])
        .chain_update(data)
        .finalize()
        .into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new_with_prefix([1]).chain_update(left);
    hash.chain_update(right).finalize().into()
}

impl Tree {
    /// The tree over these leaves, in this order.
    #[must_use]
    pub fn over(leaves: impl IntoIterator<Item = Hash>) -> Self {
        let mut levels = vec![leaves.into_iter().collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            // A node without a sibling goes up as it is: that is where the RFC's split leaves it.
            let level = below.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                [alone] => *alone,
                _ => unreachable!("chunks have one or two"),
            });
            levels.push(level.collect());
        }
        Self { levels }
    }

    /// Its root; that of no leaves is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// What [`leads_to`] needs beside the leaf at this place (section 2.1.3.1); `None` when there is
    /// no such leaf.
    #[must_use]
    pub fn path(&self, leaf: usize) -> Option<Vec<Hash>> {
        self.levels.first()?.get(leaf)?;
        let below_the_root = self.levels.iter().take(self.levels.len() - 1);
        let sibling =
            |(height, level): (usize, &Vec<Hash>)| level.get((leaf >> height) ^ 1).copied();
        Some(below_the_root.enumerate().filter_map(sibling).collect())
    }
}

/// Whether the leaf stands at this place of a tree of this size and root (section 2.1.3.2).
#[must_use]
pub fn leads_to(root: &Hash, leaf: Hash, place: u64, size: u64, path: &[Hash]) -> bool {
    if place >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (place, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of the RFC, word for word.
    fn defined_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let split = many.len().next_power_of_two() / 2;
                node(&defined_root(&many[..split]), &defined_root(&many[split..]))
            }
        }
    }

    fn defined_path(place: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        let (mut path, other) = if place < split {
            (defined_path(place, left), right)
        } else {
            (defined_path(place - split, right), left)
        };
        path.push(defined_root(other));
        path
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|number| leaf(&number.to_be_bytes()))
            .collect()
    }

    #[test]
    fn roots_and_paths_are_those_of_the_rfc() {
        for count in 0..70 {
            let leaves = leaves(count);
            let tree = Tree::over(leaves.clone());
            assert_eq!(tree.root(), defined_root(&leaves), "{count}");
            for place in 0..count {
                assert_eq!(
                    tree.path(place),
                    Some(defined_path(place, &leaves)),
                    "{place}"
                );
            }
            assert_eq!(tree.path(count), None);
        }
    }

    proptest! {
        #[test]
        fn a_path_leads_from_its_leaf_at_its_place_and_from_nowhere_else(
            count in 1_usize..3000, at in any::<prop::sample::Index>(),
            other in any::<prop::sample::Index>(), bit in 0_usize..256,
        ) {
            let leaves = leaves(count);
            let tree = Tree::over(leaves.clone());
            let (place, size, root) = (at.index(count), count as u64, tree.root());
            let path = tree.path(place).unwrap();
            let proves = |leaf, place: usize, size, path: &[Hash]| {
                leads_to(&root, leaf, place as u64, size, path)
            };
            prop_assert!(proves(leaves[place], place, size, &path));
            let elsewhere = other.index(count);
            if elsewhere != place {
                prop_assert!(!proves(leaves[elsewhere], place, size, &path));
                prop_assert!(!proves(leaves[place], elsewhere, size, &path));
            }
            prop_assert!(!proves(leaves[place], count, size, &path));
            let mut longer = path.clone();
            longer.push(leaves[place]);
            prop_assert!(!proves(leaves[place], place, size, &longer));
            if let Some((_, shorter)) = path.split_last() {
                prop_assert!(!proves(leaves[place], place, size, shorter));
                let mut changed = path.clone();
                changed[other.index(path.len())][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!proves(leaves[place], place, size, &changed));
            }
        }
    }
}
