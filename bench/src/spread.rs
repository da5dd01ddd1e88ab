//! Several runs of one thing in three numbers.

/// The middle of some values, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The middle one; of two in the middle the mean.
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of these values, in no order; no number if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let median = match values.len() % 2 {
            1 => at(half),
            _ => f64::midpoint(at(half.wrapping_sub(1)), at(half)),
        };
        Self { median, low: at(0), high: at(values.len().wrapping_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_of_values_is_a_mean() {
        let of = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(of(&[3.0]), Spread { median: 3.0, low: 3.0, high: 3.0 });
        assert_eq!(of(&[3.0, 1.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(of(&[5.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 5.0 });
        assert_eq!(of(&[8.0, 1.0, 2.0, 4.0]), Spread { median: 3.0, low: 1.0, high: 8.0 });
        assert!(of(&[]).median.is_nan() && of(&[]).low.is_nan());
    }
}
