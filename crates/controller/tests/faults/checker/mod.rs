//! Tells from logs whether promises were kept. Pure: it is given what was recorded, and tested on logs with planted
//! faults.

pub mod history;
pub mod pace;
pub mod safety;
#[cfg(test)]
mod tests;
pub mod writes;
