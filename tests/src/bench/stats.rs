//! What several runs of the same measurement say together.

/// The values of one quantity, one for each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Sample {
    /// Adds the value of another run.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The values, in the order of the runs.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle value; between the two middle ones where their number is even. `None` without values.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The least and the greatest value. `None` without values.
    pub fn range(&self) -> Option<(f64, f64)> {
        Some((self.quantile(0.0)?, self.quantile(1.0)?))
    }

    /// A quantile, with straight lines between the values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        #[expect(clippy::cast_precision_loss, reason = "there are few runs")]
        let position = quantile.clamp(0.0, 1.0) * last as f64;
        #[expect(clippy::cast_sign_loss, reason = "neither the quantile nor the length is negative")]
        let below = position.floor() as usize;
        let above = (below + 1).min(last);
        Some(sorted[below] + (sorted[above] - sorted[below]) * position.fract())
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn quantiles_lie_between_the_values() {
        for (values, least, quarter, median, greatest) in [
            (&[7.0][..], 7.0, 7.0, 7.0, 7.0),
            (&[4.0, 1.0], 1.0, 1.75, 2.5, 4.0),
            (&[5.0, 1.0, 3.0], 1.0, 2.0, 3.0, 5.0),
            (&[9.0, 1.0, 2.0, 8.0, 3.0], 1.0, 2.0, 3.0, 9.0),
        ] {
            let sample: Sample = values.iter().copied().collect();
            assert_eq!(sample.range(), Some((least, greatest)), "{values:?}");
            assert_eq!(sample.quantile(0.25), Some(quarter), "{values:?}");
            assert_eq!(sample.median(), Some(median), "{values:?}");
        }
    }

    #[test]
    fn nothing_measured_is_not_zero() {
        assert_eq!((Sample::default().median(), Sample::default().range()), (None, None));
    }
}
