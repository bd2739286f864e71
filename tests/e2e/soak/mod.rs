//! Real applications: Fanery from its recipe to requests without a loss, here and in a virtual machine,
//! and a Django project as its page shows it.
//! They take most of an hour.

mod fanery;
mod first_application;
