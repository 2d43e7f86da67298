//! The demo: a throw-away daemon, real services, faults on a schedule, and a table of recoveries.
