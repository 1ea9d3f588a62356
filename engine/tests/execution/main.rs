//! Whole queries over built segments against a row-at-a-time oracle.

mod expressions;
mod generate;
mod host;
mod oracle;
mod pools;
mod properties;
mod scenarios;
mod spills;
mod tops;
