//! Changes of state, of one instance and of those that move with it.

use harbor_ha_ebpf::units::{Nanos, Priority};

use super::input::Heard;
use super::instance::Instance;
use super::track::{self, Health};
use super::{Action, Actions, Event, InstanceId, Report, Router, State, Subject, What};

/// Why an owner is master.
const OWNS: &str = "it owns the addresses";

impl Instance {
    /// The sender is master: its interval is ours to count by (RFC 9568 §6.4.2 (470)).
    pub(super) const fn follow(&mut self, heard: &Heard) {
        self.master_interval = heard.advert.interval;
        self.master = Some((heard.from, heard.advert.priority));
        self.graced = false;
    }

    fn change(&mut self, now: Nanos, id: InstanceId, to: State, why: &str, out: &mut Actions) {
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        self.why = why.to_owned();
        out.push(Action::Report(Report { instance: id, from, to, why: why.to_owned() }));
    }

    fn tell(&self, id: InstanceId, what: What, out: &mut Actions) {
        out.push(Action::Notify(Event { subject: Subject::Instance(id), what, priority: self.priority }));
    }

    /// One advert, and the next one an interval later.
    fn advertise(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        self.counters.adverts_sent += 1;
        self.advert_at = Some(now.after(self.rules.protocol.interval()));
        out.push(Action::Advert { instance: id, priority: self.priority });
    }

    fn resign(&mut self, id: InstanceId, out: &mut Actions) {
        self.counters.adverts_sent += 1;
        self.counters.priority_zero_sent += 1;
        out.push(Action::Advert { instance: id, priority: Priority::RESIGN });
    }

    /// The advert goes first, so that an old master drops the addresses before they are announced here.
    fn become_master(&mut self, now: Nanos, id: InstanceId, why: &str, out: &mut Actions) {
        self.change(now, id, State::Master, why, out);
        self.counters.became_master += 1;
        self.wants = false;
        self.graced = false;
        (self.down_at, self.preempt_at) = (None, None);
        self.master_interval = self.rules.protocol.interval();
        self.master = Some((self.rules.source, self.priority));
        self.advertise(now, id, out);
        out.push(Action::AddAddresses(id));
        self.announce(now, id, out);
        self.tell(id, What::Master, out);
    }

    fn announce(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        let announce = self.rules.announce;
        let some = |length: Nanos, at: Nanos| (length != Nanos(0)).then(|| at.after(length));
        if announce.repeat > 0 {
            out.push(Action::Announce { instance: id, count: announce.repeat });
            self.second_burst_at = some(announce.delay, now);
        }
        // Refreshes count from the second burst, as keepalived's do.
        self.refresh_at = some(announce.refresh, now.after(announce.delay));
    }

    /// `down_at`: until when the master may be silent.
    fn become_backup(&mut self, now: Nanos, id: InstanceId, down_at: Nanos, why: &str, out: &mut Actions) {
        let was = self.state;
        self.change(now, id, State::Backup, why, out);
        self.stop_master_timers();
        (self.wants, self.graced) = (false, false);
        self.down_at = Some(down_at);
        self.preempt_at = None;
        match was {
            State::Master => {
                self.counters.released_master += 1;
                out.push(Action::RemoveAddresses(id));
            }
            // As after a first weaker advert.
            State::Fault if self.rules.preempt_delay != Nanos(0) => {
                self.preempt_at = Some(now.after(self.rules.preempt_delay));
            }
            State::Init | State::Backup | State::Fault => {}
        }
        self.tell(id, What::Backup, out);
    }

    fn become_faulty(&mut self, now: Nanos, id: InstanceId, why: &str, out: &mut Actions) {
        if self.state == State::Master {
            self.resign(id, out);
            out.push(Action::RemoveAddresses(id));
            self.counters.released_master += 1;
        }
        self.change(now, id, State::Fault, why, out);
        self.stop_master_timers();
        (self.wants, self.master, self.down_at, self.preempt_at) = (false, None, None, None);
        self.tell(id, What::Fault, out);
    }
}

impl Router {
    fn at(&mut self, id: InstanceId) -> &mut Instance {
        &mut self.instances[usize::from(id.0)]
    }

    pub(super) fn advertise(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        self.at(id).advertise(now, id, out);
    }

    /// A weaker node spoke: RFC 9568 §6.4.3 (725) advertises at once, and keepalived announces the whole group again, as
    /// that node may have been believed.
    pub(super) fn answer(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        let instance = self.at(id);
        if !instance.rules.lower_prio_no_advert {
            instance.advertise(now, id, out);
        }
        let fellows = instance.fellows.clone();
        for &fellow in fellows.iter() {
            let instance = self.at(fellow);
            let announce = instance.rules.announce;
            if announce.lower_priority_repeat > 0 {
                out.push(Action::Announce { instance: fellow, count: announce.lower_priority_repeat });
                if announce.lower_priority_delay != Nanos(0) {
                    instance.lower_burst_at = Some(now.after(announce.lower_priority_delay));
                }
            }
            let next = instance.next_deadline();
            self.queue.by(fellow, next);
        }
        self.at(id).tell(id, What::LowerPriority, out);
    }

    /// Somebody stronger is master, of the whole group then: nobody resigns, as the winner's group follows by itself.
    pub(super) fn yield_to(&mut self, now: Nanos, heard: &Heard, at: Nanos, out: &mut Actions) {
        let instance = self.at(heard.instance);
        if instance.rules.higher_prio_send_advert {
            instance.advertise(now, heard.instance, out);
        }
        let fellows = instance.fellows.clone();
        let why =
            format!("{} advertises priority {}, ours is {}", heard.from, heard.advert.priority.0, instance.priority.0);
        instance.follow(heard);
        let down_at = at.after(instance.master_down());
        instance.become_backup(now, heard.instance, down_at, &why, out);
        for &fellow in fellows.iter().filter(|&&fellow| fellow != heard.instance) {
            let instance = self.at(fellow);
            if instance.state == State::Master {
                (instance.master_interval, instance.master) = (instance.rules.protocol.interval(), None);
                // What it heard as master does not tell who follows it.
                instance.word = None;
                let down_at = now.after(instance.master_down());
                instance.become_backup(now, fellow, down_at, "another instance of the group is backup", out);
            }
        }
        self.moved(heard.instance, out);
    }

    /// The timers of an instance that are due.
    pub(super) fn run_timers(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        let instance = self.at(id);
        let due = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        if due(instance.down_at) {
            let late = instance.down_at.map_or(Nanos(0), |at| now.since(at));
            // This host stood still, and its network with it: the master's adverts of that time are lost and say nothing.
            if late > instance.master_interval && !instance.graced {
                instance.graced = true;
                instance.counters.stalls += 1;
                instance.down_at = Some(now.after(instance.master_interval));
                return;
            }
            self.timer_ran_out(now, id, out);
            return;
        }
        if due(instance.advert_at) {
            let on_time = instance.advert_at.map_or(now, |at| at.after(instance.rules.protocol.interval()));
            instance.advertise(now, id, out);
            // No drift; and after a stall no burst.
            if on_time > now {
                instance.advert_at = Some(on_time);
            }
        }
        let announce = instance.rules.announce;
        if due(instance.second_burst_at) {
            instance.second_burst_at = None;
            out.push(Action::Announce { instance: id, count: announce.repeat });
        }
        if due(instance.lower_burst_at) {
            instance.lower_burst_at = None;
            out.push(Action::Announce { instance: id, count: announce.lower_priority_repeat });
        }
        if due(instance.refresh_at) {
            instance.refresh_at = Some(now.after(announce.refresh));
            out.push(Action::Announce { instance: id, count: announce.refresh_repeat });
        }
    }

    /// Nobody is master: this instance would be, if its fellows would.
    fn timer_ran_out(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        let instance = self.at(id);
        instance.wants = true;
        instance.master = None;
        let why = instance.why_nobody(now);
        if !self.take_over(now, id, &why, out) {
            let instance = self.at(id);
            instance.graced = false;
            instance.down_at = Some(now.after(instance.master_down()));
        }
    }

    /// Becomes master with all fellows, if each of them would be.
    fn take_over(&mut self, now: Nanos, id: InstanceId, why: &str, out: &mut Actions) -> bool {
        let fellows = self.at(id).fellows.clone();
        let ready = |instance: &Instance| instance.state == State::Backup && instance.wants;
        if !fellows.iter().all(|fellow| ready(&self.instances[usize::from(fellow.0)])) {
            return false;
        }
        for &fellow in fellows.iter() {
            let instance = self.at(fellow);
            instance.become_master(now, fellow, why, out);
            let next = instance.next_deadline();
            self.queue.by(fellow, next);
        }
        self.moved(id, out);
        true
    }

    /// Weighs the trackers of an instance anew.
    pub(super) fn weigh(&mut self, id: InstanceId, out: &mut Actions) {
        let instance = &mut self.instances[usize::from(id.0)];
        let rules = &instance.rules;
        let (priority, health) = track::weigh(rules.priority, rules.tracks.iter(), &self.trackers);
        instance.health = health;
        if priority != instance.priority {
            instance.priority = priority;
            let master = instance.state == State::Master;
            if master {
                instance.master = Some((instance.rules.source, priority));
            }
            if instance.rules.priority_changes {
                instance.tell(id, What::Priority { master }, out);
            }
        }
    }

    /// What follows for an instance and its fellows from what is tracked: a fault of one is a fault of all.
    pub(super) fn settle(&mut self, now: Nanos, id: InstanceId, out: &mut Actions) {
        let fellows = self.at(id).fellows.clone();
        let health = |fellow: &InstanceId| self.instances[usize::from(fellow.0)].health;
        let fault = fellows.iter().find_map(|fellow| match health(fellow) {
            Health::Fault(tracker) => Some((*fellow, tracker)),
            Health::Waits(_) | Health::Well => None,
        });
        if let Some((whose, tracker)) = fault {
            let what = format!("`{}` is not as it should be", self.watched[usize::from(tracker.0)].name);
            let others = format!("instance `{}` of the group: {what}", self.at(whose).rules.name);
            // The instance with the fault first.
            for &fellow in fellows.iter() {
                let why = if fellow == whose { &what } else { &others };
                let instance = self.at(fellow);
                if instance.state != State::Fault {
                    instance.become_faulty(now, fellow, why, out);
                }
            }
        } else if fellows.iter().all(|fellow| health(fellow) == Health::Well) {
            self.rise(now, id, &fellows, out);
        }
        self.moved(id, out);
    }

    /// Out of INIT or FAULT. Only an owner is master at once, whatever state it is configured to begin with.
    fn rise(&mut self, now: Nanos, id: InstanceId, fellows: &[InstanceId], out: &mut Actions) {
        let mut risen = false;
        for &fellow in fellows {
            let instance = self.at(fellow);
            let why = match instance.state {
                State::Backup | State::Master => continue,
                State::Init => "started",
                State::Fault => "nothing stops it any more",
            };
            risen = true;
            (instance.master_interval, instance.master) = (instance.rules.protocol.interval(), None);
            instance.word = None;
            let down_at = now.after(instance.master_down());
            let owner = instance.rules.priority.is_owner() && instance.rules.owns_at_once;
            if owner && fellows.len() == 1 {
                instance.become_master(now, fellow, OWNS, out);
            } else {
                instance.become_backup(now, fellow, down_at, why, out);
                instance.wants = owner;
            }
            let next = instance.next_deadline();
            self.queue.by(fellow, next);
        }
        if risen {
            self.take_over(now, id, OWNS, out);
        }
    }

    /// Tells of a group whose members have all moved.
    fn moved(&mut self, id: InstanceId, out: &mut Actions) {
        let Some(group_id) = self.at(id).group else { return };
        let members =
            || self.groups[usize::from(group_id.0)].members.iter().map(|member| &self.instances[usize::from(member.0)]);
        let state = members().next().map_or(State::Init, |first| first.state);
        let priority = members().map(|member| member.priority).max().unwrap_or(Priority::RESIGN);
        if !members().all(|member| member.state == state) {
            return;
        }
        let what = match state {
            State::Init => return,
            State::Backup => What::Backup,
            State::Master => What::Master,
            State::Fault => What::Fault,
        };
        let group = &mut self.groups[usize::from(group_id.0)];
        if std::mem::replace(&mut group.state, state) != state {
            out.push(Action::Notify(Event { subject: Subject::Group(group_id), what, priority }));
        }
    }

    /// Somebody took them away: they are put back and announced, as this node is their master.
    pub(super) fn addresses_gone(&mut self, id: InstanceId, out: &mut Actions) {
        let instance = self.at(id);
        if instance.state == State::Master {
            instance.counters.addresses_restored += 1;
            out.push(Action::AddAddresses(id));
            if instance.rules.announce.repeat > 0 {
                out.push(Action::Announce { instance: id, count: instance.rules.announce.repeat });
            }
        }
    }

    /// Masters resign before anything slower is done.
    pub(super) fn stop(&mut self, now: Nanos, out: &mut Actions) {
        self.ended = true;
        let masters: Vec<InstanceId> = self.all().filter(|&id| self.is_master(id)).collect();
        for &id in &masters {
            self.at(id).resign(id, out);
        }
        for &id in &masters {
            let instance = self.at(id);
            instance.counters.released_master += 1;
            out.push(Action::RemoveAddresses(id));
        }
        for id in self.all() {
            let instance = self.at(id);
            if instance.state != State::Init {
                instance.change(now, id, State::Init, "asked to end", out);
            }
            instance.stop_master_timers();
            (instance.down_at, instance.master) = (None, None);
            instance.tell(id, What::Stop, out);
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.state = State::Init;
            let priorities = group.members.iter().map(|member| self.instances[usize::from(member.0)].priority);
            let priority = priorities.max().unwrap_or(Priority::RESIGN);
            let subject = Subject::Group(super::GroupId(index as u16));
            out.push(Action::Notify(Event { subject, what: What::Stop, priority }));
        }
        self.queue = super::Queue::new(self.instances.len());
    }

    pub(super) fn all(&self) -> impl Iterator<Item = InstanceId> + use<> {
        (0..self.instances.len() as u16).map(InstanceId)
    }

    fn is_master(&self, id: InstanceId) -> bool {
        self.instances[usize::from(id.0)].state == State::Master
    }
}
