(** Keeps things by key. *)

open Printf

type t
(** A store. *)

type entry = {
  key : string;
  value : string;
}

val open_store : string -> t
(** Opens a store. *)

val read : t -> string -> string option

module Cache : sig
  type t

  val clear : t -> unit
end

exception Damaged of string
