//! Package of the tests in `tests`, which need no library.
