//! The journal and its segments on real disks: crashes, damage, a full disk, many questions.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod query;
#[cfg(test)]
mod support;
