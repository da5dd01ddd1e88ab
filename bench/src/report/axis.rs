//! Axes: where values lie between 0 and 1, and which of them are marked.

/// How an axis goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Axis {
    /// From zero.
    Linear { max: f64 },
    /// By factors; `base` is 2 or 10.
    Log { base: f64, low: i32, high: i32 },
    /// Names, one after the other.
    Names(Vec<String>),
}

impl Axis {
    /// A linear axis from zero over all values.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let most = values.into_iter().fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = step(most);
        Self::Linear { max: (most / step - 1e-9).ceil() * step }
    }

    /// A logarithmic axis over all values, which are positive.
    pub(super) fn log(base: f64, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (i32::MAX, i32::MIN);
        for value in values {
            let power = value.log(base);
            low = low.min((power + 1e-9).floor() as i32);
            high = high.max((power - 1e-9).ceil() as i32);
        }
        if low > high {
            return Self::Log { base, low: 0, high: 1 };
        }
        Self::Log { base, low, high: high.max(low + 1) }
    }

    /// Where a value lies, 0 at the beginning and 1 at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self {
            Self::Linear { max } => value / max,
            Self::Log { base, low, high } => {
                (value.log(*base) - f64::from(*low)) / f64::from(high - low)
            }
            Self::Names(names) => (value + 0.5) / names.len() as f64,
        }
    }

    /// The values that are marked.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { max } => {
                let step = step(*max);
                (0..=(max / step).round() as u32).map(|count| f64::from(count) * step).collect()
            }
            Self::Log { base, low, high } => {
                let every = ((high - low + 5) / 6).max(1);
                let powers = (*low..=*high).filter(|power| (power - low) % every == 0);
                powers.map(|power| base.powi(power)).collect()
            }
            Self::Names(names) => (0..names.len()).map(|number| number as f64).collect(),
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that is there three to six times in `most`.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 3.0).log10().floor());
    let factor =
        [5.0, 2.0, 1.0].into_iter().find(|factor| factor * power * 3.0 <= most * 1.000_001);
    power * factor.unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_mark() {
        assert_eq!(Axis::linear([3.0, 9.3]), Axis::Linear { max: 10.0 });
        assert_eq!(Axis::linear([0.9]).ticks().len(), 6);
        assert_eq!(Axis::linear([7800.0]).ticks(), [0.0, 2000.0, 4000.0, 6000.0, 8000.0]);
        assert!((Axis::linear([10.0]).place(5.0) - 0.5).abs() < 1e-9);
        assert_eq!(Axis::linear([]), Axis::Linear { max: 1.0 });
        for most in (1..1000).map(|number| f64::from(number) * 0.37) {
            let count = Axis::linear([most]).ticks().len();
            assert!((4..=8).contains(&count), "{most}: {count}");
        }
    }

    #[test]
    fn a_logarithmic_axis_ends_at_powers() {
        assert_eq!(Axis::log(2.0, [4096.0, 70000.0]), Axis::Log { base: 2.0, low: 12, high: 17 });
        assert_eq!(Axis::log(10.0, [1e-3, 1e-3]), Axis::Log { base: 10.0, low: -3, high: -2 });
        let axis = Axis::log(2.0, [1.0, f64::from(1 << 23)]);
        assert_eq!(axis.ticks().len(), 6);
        assert!((axis.place(1.0)).abs() < 1e-9);
        assert!((axis.place(f64::from(1 << 23)) - 1.0).abs() < 1e-9);
    }
}
