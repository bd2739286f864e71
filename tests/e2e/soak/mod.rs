//! The real application, from its recipe to requests without a loss, here and in a virtual machine.
//! It takes most of an hour.

mod fanery;
