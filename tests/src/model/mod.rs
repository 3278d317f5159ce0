//! Model.

pub mod action;
pub mod bounds;
pub mod check;
mod daemon;
mod kernel;
pub mod properties;
pub mod state;
pub mod step;
mod witness;

use stateright::{Model, Property};

use action::Action;
use state::State;
use step::Protocol;

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.starts()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        if !self.take(&mut next, action) {
            return None;
        }
        self.tidy(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
