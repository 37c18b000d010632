//! A network between a client and a store that can be cut, and that can lose answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What the network does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Mood {
    Works = 0,
    /// What is asked arrives, what is answered is lost.
    LosesAnswers = 1,
    /// Nothing gets through, and connections break.
    Cut = 2,
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    listener: TcpListener,
}

struct Shared {
    to: SocketAddr,
    mood: AtomicU8,
    sockets: Mutex<Vec<TcpStream>>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl Proxy {
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, pumps) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { to, mood: AtomicU8::new(Mood::Works as u8), sockets, pumps });
        let (accepting, at) = (Arc::clone(&shared), listener.try_clone().unwrap());
        let accepting = Some(thread::spawn(move || accepting.accept(&at)));
        Self { address, shared, accepting, listener }
    }

    pub fn set(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
        if mood == Mood::Cut {
            self.shared.cut();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mood::Cut);
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _ = self.accepting.take().unwrap().join();
        self.shared.cut();
        for pump in self.shared.pumps.lock().unwrap().drain(..) {
            let _ = pump.join();
        }
    }
}

impl Shared {
    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::SeqCst) == mood as u8
    }

    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((near, _)) = listener.accept() {
            if self.is(Mood::Cut) {
                continue;
            }
            let Ok(far) = TcpStream::connect(self.to) else { continue };
            let ends = [&near, &near, &far, &far].map(|socket| socket.try_clone().unwrap());
            {
                let mut sockets = self.sockets.lock().unwrap();
                sockets.extend([near, far]);
            }
            if self.is(Mood::Cut) {
                self.cut();
            }
            let [near_in, near_out, far_in, far_out] = ends;
            let (there, back) = (Arc::clone(self), Arc::clone(self));
            let there = thread::spawn(move || there.pump(near_in, far_out, false));
            let back = thread::spawn(move || back.pump(far_in, near_out, true));
            self.pumps.lock().unwrap().extend([there, back]);
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if is_answer && self.is(Mood::LosesAnswers) {
                continue;
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
