//! Every way in which a disk can be left at a moment.

use crate::disk::image::{BLOCK, Image, Kept, SECTOR};
use crate::random::Random;
use std::path::Path;

/// Combinations of blocks in doubt that are all tried: twelve blocks written once. Of more than these the sparse
/// and the nearly whole ones are tried, and as many others drawn.
const COMBINATIONS_MAX: usize = 4096;

/// How a bank ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies between two accesses: all that it wrote is there.
    Process,
    /// The process dies in the last write: so many of its blocks were written.
    ProcessInWrite(usize),
    /// The power goes: so many changes of names survive, and of each block in doubt this.
    Power(usize, Vec<Kept>),
}

impl Crash {
    /// Whether a block is left that is neither as it was nor as it was written.
    pub fn tears(&self) -> bool {
        matches!(self, Crash::Power(_, kept) if kept.iter().any(|kept| matches!(kept, Kept::Torn(..))))
    }

    /// What it leaves of this disk, which was like `before` one access earlier.
    pub fn leave(&self, before: &Image, image: &Image) -> Image {
        match self {
            Crash::Process => image.clone(),
            Crash::ProcessInWrite(blocks) => {
                let mut left = before.clone();
                if let Some(written) = image.written_since(before) {
                    for (at, block) in &written.blocks[..*blocks] {
                        left.file_mut(written.file).write(*at, std::iter::once(block.clone()));
                    }
                }
                left
            }
            Crash::Power(names, kept) => {
                let (mut left, mut kept) = (image.clone(), kept.iter());
                left.lose_power(*names, &mut |path, versions| match is_unfinished(path) {
                    true => Kept::New(versions - 1),
                    false => *kept.next().expect("as many as are in doubt"),
                });
                left
            }
        }
    }
}

/// Whether this is a segment whose making was cut short. Its name alone counts: nothing of it is ever read.
pub fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "tmp")
}

/// All ways to end now. `before` is the disk as it was one access earlier.
pub fn every(before: &Image, image: &Image, draw: &mut Random) -> Vec<Crash> {
    let mut crashes = vec![Crash::Process];
    if let Some(written) = image.written_since(before)
        && !is_unfinished(written.path)
    {
        crashes.extend((1..written.blocks.len()).map(Crash::ProcessInWrite));
    }
    let most = image.names_pending();
    for names in 0..=most {
        let doubts = in_doubt(image, names);
        let whole = combinations(&doubts, draw);
        crashes.extend(whole.into_iter().map(|kept| Crash::Power(names, kept)));
        if names == most {
            crashes.extend(torn(&doubts, draw).into_iter().map(|kept| Crash::Power(names, kept)));
        }
    }
    crashes
}

/// Of each block in doubt how many contents it was given, when so many changes of names survive.
fn in_doubt(image: &Image, names: usize) -> Vec<usize> {
    let mut doubts = Vec::new();
    image.clone().lose_power(names, &mut |path, versions| {
        if !is_unfinished(path) {
            doubts.push(versions);
        }
        Kept::Old
    });
    doubts
}

fn whole(choice: usize) -> Kept {
    choice.checked_sub(1).map_or(Kept::Old, Kept::New)
}

/// Each block old or new, in all combinations where there are not too many.
fn combinations(doubts: &[usize], draw: &mut Random) -> Vec<Vec<Kept>> {
    let all = doubts.iter().try_fold(1usize, |all, versions| all.checked_mul(versions + 1));
    if let Some(all) = all.filter(|all| *all <= COMBINATIONS_MAX) {
        return (0..all).map(|number| combination(doubts, number)).collect();
    }
    let newest: Vec<Kept> = doubts.iter().map(|versions| whole(*versions)).collect();
    let oldest = vec![Kept::Old; doubts.len()];
    let mut tried = vec![oldest.clone(), newest.clone()];
    for i in 0..doubts.len() {
        for (most, one) in [(&oldest, newest[i]), (&newest, Kept::Old)] {
            let mut kept = most.clone();
            kept[i] = one;
            tried.push(kept);
        }
    }
    let drawn = |_| doubts.iter().map(|versions| whole(draw.index(versions + 1))).collect();
    tried.extend((0..COMBINATIONS_MAX).map(drawn));
    tried
}

/// The combination of this number: its digits say what is left of each block.
fn combination(doubts: &[usize], mut number: usize) -> Vec<Kept> {
    let digit = |versions: &usize| {
        let choice = number % (versions + 1);
        number /= versions + 1;
        whole(choice)
    };
    doubts.iter().map(digit).collect()
}

/// One block torn at each of its sectors; the others all as they were written, or as is drawn.
fn torn(doubts: &[usize], draw: &mut Random) -> Vec<Vec<Kept>> {
    let mut tried = Vec::new();
    for (i, versions) in doubts.iter().enumerate() {
        for version in 0..*versions {
            for sectors in 1..BLOCK / SECTOR {
                let newest = doubts.iter().map(|versions| whole(*versions)).collect();
                let drawn = doubts.iter().map(|versions| whole(draw.index(versions + 1))).collect();
                for mut kept in [newest, drawn] as [Vec<Kept>; 2] {
                    kept[i] = Kept::Torn(version, sectors);
                    tried.push(kept);
                }
            }
        }
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::image::block;

    /// An image whose file holds two durable blocks and four that are not, one of them written twice.
    fn image() -> Image {
        let mut image = Image::default();
        let file = image.add(Path::new("/a.seg"));
        let one = |byte: u8| std::iter::once(block(&[byte; BLOCK]));
        image.file_mut(file).write(0, [block(&[1; BLOCK]), block(&[2; BLOCK])].into_iter());
        image.file_mut(file).sync();
        image.sync_names();
        let before = image.file_mut(file);
        before.write(0, one(3));
        before.write(1, one(4));
        before.write(1, one(5));
        image
    }

    #[test]
    fn all_combinations_are_tried_and_each_is_another() {
        let image = image();
        let crashes = every(&Image::default(), &image, &mut Random::new(1));
        let mut whole: Vec<_> =
            crashes.iter().filter(|crash| matches!(crash, Crash::Power(..)) && !crash.tears()).collect();
        assert_eq!(whole.len(), 2 * 3, "one block has two contents, the other three");
        whole.dedup();
        assert_eq!(whole.len(), 2 * 3);
        let left: std::collections::BTreeSet<_> = whole
            .iter()
            .map(|crash| {
                let left = crash.leave(&Image::default(), &image);
                let file = left.file(left.find(Path::new("/a.seg")).expect("its name is durable"));
                [0, 1].map(|at| file.block(at).expect("not zero")[0])
            })
            .collect();
        assert_eq!(left.len(), 2 * 3, "{left:?}");
        assert_eq!(crashes.iter().filter(|crash| crash.tears()).count(), 3 * 7 * 2);
    }

    #[test]
    fn of_too_many_combinations_the_sparse_and_the_nearly_whole_are_tried() {
        let doubts = [1; 20];
        let tried = combinations(&doubts, &mut Random::new(1));
        let with =
            |n: usize| tried.iter().filter(|k| k.iter().filter(|k| **k != Kept::Old).count() == n).count();
        assert!([0, 20].into_iter().all(|n| with(n) >= 1) && [1, 19].into_iter().all(|n| with(n) >= 20));
    }
}
