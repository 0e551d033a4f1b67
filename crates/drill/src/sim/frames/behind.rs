//! The simulated core as the service of frames sees it, with the judge beside it.

use super::super::tap::{Bench, Judged};
use pabal_bank::Reply;
use pabal_core::machine::{Answer, Query};
use pabal_core::{Behind, Following};
use pabal_engine::{Door, Error, Follower, Hear, Request, Response, Seen};
use pabal_journal::Durable;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A simulated core's door.
pub struct SimCore {
    pub door: Door<Judged>,
    pub bench: Bench,
    pub followings: Followings,
}

/// Those who follow, each to be served a record at a time.
pub type Followings = Arc<Mutex<Vec<Following>>>;

impl Behind for SimCore {
    fn durable(&self) -> Arc<Durable> {
        self.door.durable()
    }

    fn submit_all(&self, requests: impl IntoIterator<Item = (u64, Request, Hear<Response<Reply>>)>) {
        for request in requests {
            self.bench.judge().comes_in(&request.1.header);
            self.door.submit_all([request]);
        }
    }

    fn query_to(&self, sender: u64, query: Query, to: Hear<Seen<Answer>>) {
        let bench = self.bench.clone();
        let heard = move |seen: Seen<Answer>| {
            bench.judge().releases(query, &seen);
            to(seen);
        };
        self.door.query_to(sender, query, Box::new(heard));
    }

    fn follow_from(&self, sequence: u64) -> Result<Follower, Error> {
        self.door.follow_from(sequence)
    }

    fn beside(&self, following: Following) -> io::Result<()> {
        self.followings.lock().unwrap_or_else(PoisonError::into_inner).push(following);
        Ok(())
    }
}
