//! Choices that follow from a seed: the same seed, the same schedule.

use std::ops::Range;

/// splitmix64: small, and good enough to choose by.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// A stream of choices for one task of a seed, apart from those of its other tasks.
    pub(super) fn new(seed: u64, task: u64) -> Self {
        let mut dice = Self(seed ^ task.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of a range that is not empty.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A place in something of that length.
    pub(super) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.within(0..length as u64)).expect("below a length")
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of these, each as often as its weight says.
    pub(super) fn weighed<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let all = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.within(0..all);
        for (weight, choice) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up to all")
    }
}

#[test]
fn the_same_seed_gives_the_same_choices_and_another_task_others() {
    let choices = |seed, task| {
        let mut dice = Dice::new(seed, task);
        (0..20).map(|_| dice.within(0..1000)).collect::<Vec<_>>()
    };
    assert_eq!(choices(7, 1), choices(7, 1));
    assert_ne!(choices(7, 1), choices(7, 2));
    assert_ne!(choices(7, 1), choices(8, 1));
}
