//! A set of numbers that knows its gaps.

use std::collections::BTreeMap;

/// A set of 128-bit numbers, kept as disjoint intervals that do not touch each other.
///
/// Dense sets are small and the next number that is *not* in the set is one look-up away, which is what an
/// address pool asks for. With n intervals every operation takes O(log n), [`IntervalSet::insert_range`]
/// in addition the time to drop the intervals that it swallows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// First to last member of each interval, both included.
    intervals: BTreeMap<u128, u128>,
    /// Number of members; `u128::MAX` also where there is one more than that.
    len: u128,
}

impl IntervalSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of members. The set of all numbers has one member more than `u128` can say and reports
    /// `u128::MAX`.
    pub fn len(&self) -> u128 {
        self.len
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Whether `value` is a member.
    pub fn contains(&self, value: u128) -> bool {
        self.interval_of(value).is_some()
    }

    /// The intervals in ascending order, each as its first and last member.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u128, u128)> {
        self.intervals.iter().map(|(&first, &last)| (first, last))
    }

    /// The smallest value in `from..=last` that is not a member; `None` where all are, or where `from` lies
    /// behind `last`.
    pub fn first_gap(&self, from: u128, last: u128) -> Option<u128> {
        let gap = match self.interval_of(from) {
            // Intervals do not touch, so what follows one is never a member.
            Some((_, end)) => end.checked_add(1)?,
            None => from,
        };
        (gap <= last).then_some(gap)
    }

    /// Makes `value` a member; `false` where it was one already.
    pub fn insert(&mut self, value: u128) -> bool {
        if self.contains(value) {
            return false;
        }
        self.insert_range(value, value);
        true
    }

    /// Makes every value in `first..=last` a member; none where `first` lies behind `last`.
    pub fn insert_range(&mut self, first: u128, last: u128) {
        if first > last {
            return;
        }
        let (mut start, mut end) = (first, last);
        // Everything that overlaps or touches becomes part of the one interval.
        if let Some((before, before_end)) = self.at_or_before(first)
            && before_end >= first.saturating_sub(1)
        {
            start = before;
            end = end.max(before_end);
            self.take(before, before_end);
        }
        while let Some((next, next_end)) = self.next_within(start, last.saturating_add(1)) {
            end = end.max(next_end);
            self.take(next, next_end);
        }
        self.put(start, end);
    }

    /// Takes `value` out of the set; `false` where it was no member.
    pub fn remove(&mut self, value: u128) -> bool {
        let Some((first, last)) = self.interval_of(value) else { return false };
        self.take(first, last);
        if first < value {
            self.put(first, value - 1);
        }
        if value < last {
            self.put(value + 1, last);
        }
        true
    }

    /// Takes every value in `first..=last` out of the set.
    pub fn remove_range(&mut self, first: u128, last: u128) {
        while let Some((start, end)) =
            self.at_or_before(last).filter(|&(_, end)| end >= first && first <= last)
        {
            self.take(start, end);
            if start < first {
                self.put(start, first - 1);
            }
            if end > last {
                self.put(last + 1, end);
            }
        }
    }

    /// The last member of the interval that has a member in `first..=last`, the highest such interval.
    pub fn overlapping(&self, first: u128, last: u128) -> Option<u128> {
        self.at_or_before(last).map(|(_, end)| end).filter(|&end| end >= first)
    }

    fn at_or_before(&self, value: u128) -> Option<(u128, u128)> {
        self.intervals.range(..=value).next_back().map(|(&first, &last)| (first, last))
    }

    fn interval_of(&self, value: u128) -> Option<(u128, u128)> {
        self.at_or_before(value).filter(|&(_, last)| value <= last)
    }

    fn next_within(&self, from: u128, to: u128) -> Option<(u128, u128)> {
        self.intervals.range(from..=to).next().map(|(&first, &last)| (first, last))
    }

    fn put(&mut self, first: u128, last: u128) {
        self.intervals.insert(first, last);
        self.len = self.len.saturating_add((last - first).saturating_add(1));
    }

    fn take(&mut self, first: u128, last: u128) {
        self.intervals.remove(&first);
        // The only interval with more members than `len` can say is the one of all numbers, which is alone.
        self.len = self.len.saturating_sub((last - first).saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::IntervalSet;

    const MAX: u128 = u128::MAX;

    fn set(intervals: &[(u128, u128)]) -> IntervalSet {
        let mut set = IntervalSet::new();
        for &(first, last) in intervals {
            set.insert_range(first, last);
        }
        set
    }

    #[test]
    fn touching_and_overlapping_intervals_become_one() {
        for (given, then) in [
            (&[(5, 5), (6, 6)][..], &[(5, 6)][..]),
            (&[(6, 6), (5, 5)], &[(5, 6)]),
            (&[(0, 0), (2, 2), (1, 1)], &[(0, 2)]),
            (&[(0, 1), (4, 5), (8, 9), (1, 8)], &[(0, 9)]),
            (&[(0, 9), (3, 4)], &[(0, 9)]),
            (&[(3, 4), (0, 9)], &[(0, 9)]),
            (&[(0, 1), (3, 4)], &[(0, 1), (3, 4)]),
            (&[(4, 3)], &[]),
            (&[(MAX, MAX), (MAX - 1, MAX - 1)], &[(MAX - 1, MAX)]),
            (&[(MAX - 1, MAX - 1), (MAX, MAX)], &[(MAX - 1, MAX)]),
            (&[(0, MAX - 1), (MAX, MAX)], &[(0, MAX)]),
            (&[(0, MAX), (7, 7)], &[(0, MAX)]),
        ] {
            assert_eq!(set(given).iter().collect::<Vec<_>>(), then, "{given:?}");
        }
    }

    #[test]
    fn gaps_are_found_up_to_the_greatest_number() {
        for (given, from, last, gap) in [
            (&[][..], 0, MAX, Some(0)),
            (&[], MAX, MAX, Some(MAX)),
            (&[], 1, 0, None),
            (&[(0, 4)], 0, 4, None),
            (&[(0, 4)], 2, 5, Some(5)),
            (&[(0, 4), (6, 9)], 5, 9, Some(5)),
            (&[(0, 4), (6, 9)], 6, 9, None),
            (&[(9, MAX)], 9, MAX, None),
            (&[(9, MAX - 1)], 9, MAX, Some(MAX)),
            (&[(0, MAX)], 0, MAX, None),
        ] {
            assert_eq!(set(given).first_gap(from, last), gap, "{given:?} from {from}");
        }
    }

    #[test]
    fn the_set_of_all_numbers_can_be_counted_down() {
        let mut all = set(&[(0, MAX)]);
        assert_eq!(all.len(), MAX, "2^128 does not fit");
        assert!(!all.insert(MAX));
        assert!(all.remove(MAX));
        assert_eq!(all.len(), MAX);
        assert!(all.remove(0));
        assert!(!all.remove(0));
        assert_eq!(all.len(), MAX - 1);
        assert_eq!(all.iter().collect::<Vec<_>>(), [(1, MAX - 1)]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Operation {
        Insert(u128),
        InsertRange(u128, u128),
        Remove(u128),
        RemoveRange(u128, u128),
    }

    /// Numbers of a universe small enough for collisions, at either end of the real one.
    fn value(base: u128) -> impl Strategy<Value = u128> {
        (0..24u128).prop_map(move |offset| base + offset)
    }

    fn operation(base: u128) -> impl Strategy<Value = Operation> {
        prop_oneof![
            value(base).prop_map(Operation::Insert),
            (value(base), value(base)).prop_map(|(a, b)| Operation::InsertRange(a, b)),
            value(base).prop_map(Operation::Remove),
            value(base).prop_map(Operation::Remove),
            (value(base), value(base)).prop_map(|(a, b)| Operation::RemoveRange(a, b)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(
            (base, operations) in prop_oneof![Just(0), Just(MAX - 23)]
                .prop_flat_map(|base| (Just(base), prop::collection::vec(operation(base), 0..80))),
        ) {
            let mut set = IntervalSet::new();
            let mut model = BTreeSet::new();
            for operation in operations {
                match operation {
                    Operation::Insert(value) => prop_assert_eq!(set.insert(value), model.insert(value)),
                    Operation::InsertRange(first, last) => {
                        set.insert_range(first, last);
                        model.extend(first..=last);
                    }
                    Operation::Remove(value) => prop_assert_eq!(set.remove(value), model.remove(&value)),
                    Operation::RemoveRange(first, last) => {
                        set.remove_range(first, last);
                        model.retain(|value| !(first..=last).contains(value));
                    }
                }
                let members: Vec<u128> = set.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert!(members.iter().eq(&model));
                prop_assert_eq!(set.len(), model.len() as u128);
                prop_assert_eq!(set.is_empty(), model.is_empty());
                let intervals: Vec<_> = set.iter().collect();
                for pair in intervals.windows(2) {
                    prop_assert!(pair[1].0 - pair[0].1 > 1, "{:?} touch", pair);
                }
                for from in base..=base + 23 {
                    prop_assert_eq!(set.contains(from), model.contains(&from));
                    let gap = (from..=base + 23).find(|value| !model.contains(value));
                    prop_assert_eq!(set.first_gap(from, base + 23), gap);
                    let found = set.overlapping(base, from);
                    prop_assert_eq!(found.is_some(), model.range(..=from).next().is_some());
                    prop_assert!(found.is_none_or(|end| model.contains(&end)));
                }
            }
        }
    }
}
