//! One value per network of a speech model.

use std::ops::Index;

use crate::model::Role;

/// Number of networks that every speech model has.
const COUNT: usize = Role::SPEECH.len();

/// One value for each role of [`Role::SPEECH`], in that order.
#[derive(Debug)]
pub struct PerRole<T>([T; COUNT]);

impl<T> PerRole<T> {
    /// Makes the value of each role, in the order of [`Role::SPEECH`].
    ///
    /// # Errors
    /// The first error of `value`.
    pub fn try_new<E>(value: impl FnMut(Role) -> Result<T, E>) -> Result<Self, E> {
        let values: Vec<T> = Role::SPEECH
            .into_iter()
            .map(value)
            .collect::<Result<_, E>>()?;
        match values.try_into() {
            Ok(values) => Ok(Self(values)),
            Err(_) => unreachable!("there is one value per role"),
        }
    }

    /// Makes another value for each role.
    pub fn map<U>(&self, value: impl FnMut(&T) -> U) -> PerRole<U> {
        PerRole(self.0.each_ref().map(value))
    }

    /// Iterates over the values in the order of [`Role::SPEECH`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// Borrows all values mutably, in the order of [`Role::SPEECH`].
    pub fn each_mut(&mut self) -> [&mut T; COUNT] {
        self.0.each_mut()
    }
}

impl<T> Index<Role> for PerRole<T> {
    type Output = T;

    /// # Panics
    /// `role` is not in [`Role::SPEECH`].
    fn index(&self, role: Role) -> &T {
        let index = Role::SPEECH.iter().position(|&r| r == role);
        &self.0[index.expect("every speech model has this role")]
    }
}
