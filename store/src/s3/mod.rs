//! A store in a bucket of S3, or of a server that speaks like it.
//!
//! `rusty-s3` signs requests and reads answers; the requests themselves go through
//! the client that web servers are read with ([`crate::http`]), with the same
//! retries, limits, proxies and certificates. Signatures go into the query of a URL
//! (presigned, AWS Signature Version 4) that lasts a few minutes, is made anew for
//! each attempt, and appears in no error.
//!
//! | what happens | what is done |
//! |---|---|
//! | what a web server may do | the same as there |
//! | the object changed between two requests for it | fetched anew (`If-Match`) |
//! | wrong credentials, no bucket, no permission, a wrong clock or region | refused, with what to do |
//! | a conditional write that was repeated is refused | the object is looked at: the first attempt may have arrived |
//! | content that is not what was sent (`Content-MD5`) | sent again |
//!
//! Who asks comes from where AWS's own programs have it: see [`profile`]. How
//! writers and collectors keep out of each other's way without a kernel's locks is
//! on the page [`crate::format::care`].

mod bucket;
#[cfg(feature = "write")]
mod draft;
mod fault;
#[cfg(feature = "write")]
mod keeper;
mod location;
#[cfg(feature = "write")]
mod place;
pub(crate) mod profile;

pub use self::location::BucketUrl;
#[cfg(feature = "write")]
pub(crate) use self::place::S3Backend;
use crate::error::Result;
use crate::far::Far;
use crate::http::{Access, Server};

/// The read side of the store at `location`. Nothing is asked yet.
pub(crate) fn open(location: &BucketUrl, access: &Access) -> Result<Far<Server>> {
    let (client, bucket) = bucket::prepare(location, access)?;
    Ok(Far::new(Server::new(client, Box::new(bucket), access)))
}
