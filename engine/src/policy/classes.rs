//! The order of classes.

use crate::base::Class;

/// Most classes of an order.
pub const CLASSES_MAX: usize = 16;

/// Why a list of classes is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassesError {
    /// There are none, or too many.
    #[error("there are {count} classes; an order has 1 to {CLASSES_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
    /// A class is there twice.
    #[error("the class {class} is there twice")]
    Twice {
        /// The class.
        class: Class,
    },
    /// A class is named that is not in the order.
    #[error("{class} is none of the classes {}", list(known))]
    Unknown {
        /// The class.
        class: Class,
        /// The classes, the lowest first.
        known: Vec<Class>,
    },
}

fn list(classes: &[Class]) -> String {
    classes.iter().map(Class::as_str).collect::<Vec<_>>().join(", ")
}

/// Classes from the lowest, which may go anywhere, to the highest; the one that a dataset without a
/// label has; and those that may travel in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    order: Vec<Class>,
    default: Class,
    plaintext: Vec<Class>,
}

impl Classes {
    /// An order of classes, the lowest first. `default` is the class of datasets without a label.
    /// RDMA moves the classes of `plaintext`; without it, all but the highest.
    ///
    /// # Errors
    /// There are none, too many or one twice, or one of the others is not in `order`.
    pub fn new(
        order: Vec<Class>,
        default: Class,
        plaintext: Option<Vec<Class>>,
    ) -> Result<Self, ClassesError> {
        if !(1..=CLASSES_MAX).contains(&order.len()) {
            return Err(ClassesError::Count { count: order.len() });
        }
        if let Some(at) = (1..order.len()).find(|&at| order[..at].contains(&order[at])) {
            return Err(ClassesError::Twice { class: order[at].clone() });
        }
        let plaintext = plaintext.unwrap_or_else(|| order[..order.len() - 1].to_vec());
        let named = plaintext.iter().chain([&default]);
        if let Some(class) = named.into_iter().find(|class| !order.contains(class)) {
            return Err(ClassesError::Unknown { class: class.clone(), known: order });
        }
        Ok(Self { order, default, plaintext })
    }

    /// The classes, the lowest first.
    pub fn order(&self) -> &[Class] {
        &self.order
    }

    /// The class of a dataset without a label.
    pub fn default_class(&self) -> &Class {
        &self.default
    }

    /// The place of a class in the order, from 0 for the lowest; `None` for one that is not in it.
    pub fn rank(&self, class: &Class) -> Option<usize> {
        self.order.iter().position(|known| known == class)
    }

    /// The class of what two classes are mixed in: the higher one. One that is not in the order is
    /// above all, since nothing is known of it; decisions about it deny.
    pub fn join<'a>(&self, one: &'a Class, other: &'a Class) -> &'a Class {
        let rank = |class| self.rank(class).unwrap_or(usize::MAX);
        if rank(other) > rank(one) { other } else { one }
    }

    /// Whether a class may travel in plain text inside a private site.
    pub fn in_plaintext(&self, class: &Class) -> bool {
        self.plaintext.contains(class)
    }

    /// The classes that may, in the order in which they were configured.
    pub fn plaintext(&self) -> &[Class] {
        &self.plaintext
    }
}

impl Default for Classes {
    /// public < internal < confidential < restricted; internal without a label; all but restricted in
    /// plain text.
    fn default() -> Self {
        let class = |name: &str| name.parse().expect("a valid name");
        let order: Vec<Class> =
            ["public", "internal", "confidential", "restricted"].map(class).to_vec();
        Self { default: order[1].clone(), plaintext: order[..3].to_vec(), order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        name.parse().expect("a class")
    }

    fn classes(names: &[&str]) -> Vec<Class> {
        names.iter().map(|name| class(name)).collect()
    }

    #[test]
    fn the_default_order_is_the_documented_one() {
        let order = classes(&["public", "internal", "confidential", "restricted"]);
        assert_eq!(Classes::new(order, class("internal"), None), Ok(Classes::default()));
        assert!(!Classes::default().in_plaintext(&class("restricted")));
        assert!(Classes::default().in_plaintext(&class("confidential")));
        assert_eq!(Classes::default().plaintext().len(), 3);
        assert_eq!(Classes::default().rank(&class("restricted")), Some(3));
    }

    #[test]
    fn an_order_that_is_none_is_refused() {
        let of = |names: &[&str], default: &str, plain: Option<&[&str]>| {
            Classes::new(classes(names), class(default), plain.map(classes)).map(|_| ())
        };
        assert_eq!(of(&[], "a", None), Err(ClassesError::Count { count: 0 }));
        let many: Vec<String> = (0..=CLASSES_MAX).map(|n| format!("c{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&many, "c0", None), Err(ClassesError::Count { count: 17 }));
        assert_eq!(of(&many[..CLASSES_MAX], "c0", None), Ok(()));
        assert_eq!(of(&["a", "b", "a"], "a", None), Err(ClassesError::Twice { class: class("a") }));
        let unknown = || ClassesError::Unknown { class: class("c"), known: classes(&["a", "b"]) };
        assert_eq!(of(&["a", "b"], "c", None), Err(unknown()));
        assert_eq!(of(&["a", "b"], "a", Some(&["c"])), Err(unknown()));
        assert_eq!(unknown().to_string(), "c is none of the classes a, b");
        assert_eq!(of(&["a", "b"], "a", Some(&[])), Ok(()));
    }

    #[test]
    fn of_two_classes_that_nobody_knows_the_first_is_kept() {
        let order = Classes::default();
        assert_eq!(order.join(&class("x"), &class("y")), &class("x"));
    }

    #[test]
    fn the_join_is_the_highest_and_an_unknown_class_is_above_all() {
        let order = Classes::default();
        let all = classes(&["public", "internal", "confidential", "restricted", "nonesuch"]);
        for (low, one) in all.iter().enumerate() {
            for (high, other) in all.iter().enumerate() {
                assert_eq!(order.join(one, other), &all[low.max(high)]);
            }
        }
    }
}
