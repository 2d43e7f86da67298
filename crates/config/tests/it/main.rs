//! Configurations as people write them: what is read, what is refused, and in which words.

mod good;
mod support;
