//! The engine from outside: values and messages by properties, a whole conversation through other people's codecs, and
//! hostile input.

mod arrays;
mod conversation;
mod differential;
mod hostile;
mod values;
