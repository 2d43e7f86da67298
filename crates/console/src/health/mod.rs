//! Verdicts for balancers, told from outside the services (H13, H14, H29): by HTTP and by HAProxy's
//! agent check.
//!
//! Why here and not in the service: one that hangs, is stopped or is gone can't say so itself.
//! Invariants: nothing can be changed through it; an answer says what the root knew when it was
//! asked, or that nobody can tell; the root is asked by one task, at a bounded rate, however many
//! ask us.

pub(crate) mod agent;
mod answer;
mod book;
mod pages;

pub(crate) use answer::Health;
pub(crate) use book::HealthBook;
pub(crate) use pages::{__path_all, __path_one, all, one, own_router, with_options};
