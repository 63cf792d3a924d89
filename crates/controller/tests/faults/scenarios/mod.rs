//! The scenarios, by what goes wrong.

mod crashes;
mod leaders;
mod lost_answers;
mod outages;
mod rivals;
mod storms;
mod suspensions;
mod watches;
