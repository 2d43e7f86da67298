//! People and groups of this machine.
//!
//! Why: services run as other users; names are looked up before anything is executed, so that an
//! unknown one is a clear message and not a half-started process.
//! Note: a lookup may ask a directory server (nsswitch.conf(5)) and block; never call it from a loop.
//! Source: getpwnam_r(3), getgrnam_r(3), getgrouplist(3).

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Room for one entry of the user or group database. Groups with thousands of members need more
/// than the usual page.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// Most groups of one user (`NGROUPS_MAX` of Linux).
const GROUPS_MAX: usize = 65_536;

/// What a process may: its user, group, and further groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups, all of them: nothing is inherited.
    pub groups: Vec<u32>,
}

/// An entry of the user database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Why a user or group can't be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user `{0}` on this machine (create it with `useradd`, or check `user`)")]
    NoUser(String),
    /// No such group.
    #[error(
        "there is no group `{0}` on this machine (create it with `groupadd`, or check `group`)"
    )]
    NoGroup(String),
    /// The database could not be asked.
    #[error("cannot look up `{name}` in the user database: {why} (see /etc/nsswitch.conf)")]
    Lookup {
        /// Whom.
        name: String,
        /// The system's words.
        why: String,
    },
}

/// The account of a name, or of a number. A number without an account gives one with home `/`.
pub fn account(name_or_uid: &str) -> Result<Account, UserError> {
    if let Some(found) = lookup_name(name_or_uid)? {
        return Ok(found);
    }
    match name_or_uid.parse::<u32>() {
        Ok(uid) if uid != u32::MAX => {
            Ok(lookup_uid(uid, name_or_uid)?.unwrap_or_else(|| nameless(uid, uid)))
        }
        _ => Err(UserError::NoUser(name_or_uid.to_owned())),
    }
}

/// The account that we run as, as it was when it was first asked for. One without an entry in the
/// database gets home `/`.
pub fn current() -> Account {
    static CURRENT: OnceLock<Account> = OnceLock::new();
    let look = || {
        let (uid, gid) = (effective_uid(), rustix::process::getegid().as_raw());
        let found = lookup_uid(uid, "our own user").ok().flatten();
        Account { gid, ..found.unwrap_or_else(|| nameless(uid, gid)) }
    };
    CURRENT.get_or_init(look).clone()
}

/// The number of a group given by name or number.
pub fn group_id(name_or_gid: &str) -> Result<u32, UserError> {
    if let Some(gid) = lookup_group(name_or_gid)? {
        return Ok(gid);
    }
    match name_or_gid.parse::<u32>() {
        Ok(gid) if gid != u32::MAX => Ok(gid),
        _ => Err(UserError::NoGroup(name_or_gid.to_owned())),
    }
}

/// All groups of an account, its primary one among them.
pub fn groups_of(account: &Account) -> Vec<u32> {
    let Ok(name) = CString::new(account.name.as_bytes()) else { return vec![account.gid] };
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: `groups` has room for `count` numbers and `name` ends with a zero byte; the call
        // writes at most `count` numbers and sets `count` to how many there are.
        let result = unsafe {
            libc::getgrouplist(name.as_ptr(), account.gid, groups.as_mut_ptr(), &raw mut count)
        };
        let wanted = usize::try_from(count).unwrap_or(0);
        if 0 <= result {
            groups.truncate(wanted);
            return groups;
        }
        if GROUPS_MAX <= groups.len() {
            return vec![account.gid];
        }
        groups.resize(wanted.max(groups.len() * 2).min(GROUPS_MAX), 0);
    }
}

/// The name of a user, if it has one.
pub fn name_of_uid(uid: u32) -> Option<String> {
    lookup_uid(uid, "").ok().flatten().map(|account| account.name)
}

/// The user whose rights we have.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn nameless(uid: u32, gid: u32) -> Account {
    Account { name: uid.to_string(), uid, gid, home: "/".into(), shell: "/bin/sh".into() }
}

fn lookup_name(name: &str) -> Result<Option<Account>, UserError> {
    let Ok(text) = CString::new(name) else { return Ok(None) };
    lookup_user(name, |entry, buffer, result| {
        // SAFETY: all pointers are valid for the call, and the length is that of the buffer.
        unsafe {
            libc::getpwnam_r(text.as_ptr(), entry, buffer.as_mut_ptr().cast(), buffer.len(), result)
        }
    })
}

fn lookup_uid(uid: u32, shown: &str) -> Result<Option<Account>, UserError> {
    lookup_user(shown, |entry, buffer, result| {
        // SAFETY: as above.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), result) }
    })
}

/// Calls one of the reentrant lookups with a buffer that grows until the entry fits.
fn lookup_user(
    shown: &str,
    ask: impl Fn(*mut libc::passwd, &mut [u8], *mut *mut libc::passwd) -> i32,
) -> Result<Option<Account>, UserError> {
    let mut buffer = vec![0_u8; 1024];
    loop {
        // SAFETY: passwd is plain data, for which all zeroes is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        let error = ask(&raw mut entry, &mut buffer, &raw mut result);
        if grow(error, &mut buffer) {
            continue;
        }
        if result.is_null() {
            return not_found(error, shown).map(|()| None);
        }
        return Ok(Some(Account {
            name: text(entry.pw_name).to_string_lossy().into_owned(),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            home: PathBuf::from(text(entry.pw_dir)),
            shell: PathBuf::from(text(entry.pw_shell)),
        }));
    }
}

fn lookup_group(name: &str) -> Result<Option<u32>, UserError> {
    let Ok(wanted) = CString::new(name) else { return Ok(None) };
    let mut buffer = vec![0_u8; 1024];
    loop {
        // SAFETY: group is plain data, for which all zeroes is a valid value.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the length is that of the buffer.
        let error = unsafe {
            libc::getgrnam_r(
                wanted.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut result,
            )
        };
        if grow(error, &mut buffer) {
            continue;
        }
        if result.is_null() {
            return not_found(error, name).map(|()| None);
        }
        return Ok(Some(entry.gr_gid));
    }
}

fn grow(error: i32, buffer: &mut Vec<u8>) -> bool {
    let grows = error == libc::ERANGE && buffer.len() < ENTRY_BYTES_MAX;
    if grows {
        buffer.resize(buffer.len() * 4, 0);
    }
    grows
}

/// The error numbers by which getpwnam_r(3) may say "no such entry" are none of our business.
fn not_found(error: i32, shown: &str) -> Result<(), UserError> {
    match error {
        0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(()),
        _ => Err(UserError::Lookup {
            name: shown.to_owned(),
            why: std::io::Error::from_raw_os_error(error).to_string(),
        }),
    }
}

/// The text of an entry whose buffer is still alive in the caller.
fn text<'a>(pointer: *const libc::c_char) -> &'a OsStr {
    if pointer.is_null() {
        return OsStr::new("");
    }
    // SAFETY: the C library fills these fields with texts that end with a zero byte and lie in the
    // caller's buffer, which outlives each use here (the text is copied at once).
    OsStr::from_bytes(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let root = account("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_path()), (0, 0, "/root".as_ref()));
        assert_eq!(account("0").unwrap(), root);
        assert!(groups_of(&root).contains(&0));
        assert_eq!(group_id("root"), Ok(0));
        assert_eq!(group_id("54321"), Ok(54_321));
        assert_eq!(name_of_uid(0).as_deref(), Some("root"));
        assert_eq!(account("54321").unwrap().home, PathBuf::from("/"));
        assert_eq!(current().uid, effective_uid());
    }

    #[test]
    fn an_unknown_name_is_named_with_its_remedy() {
        let message = account("no-such-person").unwrap_err().to_string();
        assert!(message.contains("no user `no-such-person`") && message.contains("useradd"));
        assert_eq!(group_id("no-such"), Err(UserError::NoGroup("no-such".into())));
        // The number that means "no change" to setresuid(2) is no user.
        assert!(account("4294967295").is_err());
        assert!(account("a\0b").is_err());
    }
}
