//! A part of a bucket as a folder of small objects, without leases: what replaces or removes them is
//! one command of a person.

use std::sync::Arc;

use reqwest::{Method, StatusCode};

use super::bucket::{self, Bucket, Call};
use super::error;
use super::url::BucketUrl;
use crate::backend::client::{ClientOptions, ObjectClient};
use crate::backend::folder::Listed;
use crate::backend::is_key;
use crate::error::Result;

/// A client of a part of a bucket.
pub(crate) struct BucketFolder {
    client: ObjectClient,
    bucket: Arc<Bucket>,
}

impl BucketFolder {
    pub(crate) fn open(location: &BucketUrl, access: &ClientOptions) -> Result<Self> {
        let (client, bucket) = bucket::prepare(location, access)?;
        Ok(Self {
            client: ObjectClient::new(client, Box::new(bucket.clone()), access),
            bucket: Arc::new(bucket),
        })
    }

    pub(crate) fn client(&self) -> &ObjectClient {
        &self.client
    }

    pub(crate) fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let prefix = format!("{folder}/");
        let listed = (self.bucket).list(&self.client, &prefix, true, usize::MAX)?;
        let names = listed.into_iter().filter_map(|object| {
            let time: Option<jiff::Timestamp> = object.last_modified?.parse().ok();
            let name = object.key.strip_prefix(&prefix)?;
            is_key(name).then(|| Listed {
                name: name.to_owned(),
                modified: time.and_then(|time| u64::try_from(time.as_second()).ok()),
            })
        });
        Ok(names.collect())
    }

    pub(crate) fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let listed = (self.bucket).list(&self.client, &prefix, true, usize::MAX)?;
        // A folder has neither time nor version.
        let folders = listed.into_iter().filter(|one| one.last_modified.is_none());
        let names = folders.filter_map(|one| Some(one.key.strip_prefix(&prefix)?.to_owned()));
        Ok(names.filter(|name| is_key(name)).collect())
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.change(Method::PUT, &format!("write {key}"), key, bytes)
    }

    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        self.change(Method::DELETE, &format!("remove {key}"), key, &[])
    }

    fn change(&self, method: Method, what: &str, key: &str, bytes: &[u8]) -> Result<()> {
        let shown = self.client.describe();
        let call = Call::new(method, key);
        let ask = |client: &_| Ok(self.bucket.request(client, &call).body(bytes.to_vec()));
        let what = format!("{what} in {shown}");
        self.client.exchange(
            &what,
            &ask,
            &mut |response, _| match (response.status(), &call.method) {
                (StatusCode::OK | StatusCode::NO_CONTENT, _) => Ok(()),
                (StatusCode::NOT_FOUND, method) if *method == Method::DELETE => Ok(()),
                _ => Err(error::of(&shown, true, response)),
            },
        )
    }
}
