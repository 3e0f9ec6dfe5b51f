(* Copyright 2024 The Authors. *)
open Printf
module StringMap = Map.Make (String)

let limit = 10

(** What can be read. *)
module type Source = sig
  type t

  val read : t -> string -> string option
end

type entry = {
  key : string;
  value : string;
}

type mode =
  | Read
  | Write

exception Not_found of string

(** A store of entries on disk. *)
module Store = struct
  type t = entry StringMap.t

  let read store key =
    match StringMap.find_opt key store with
    | Some entry -> Some entry.value
    | None -> None
end

(** Opens a store. *)
let open_store path =
  let channel = open_in path in
  let rec load store =
    match input_line channel with
    | line -> load (add line store)
    | exception End_of_file -> store
  in
  load StringMap.empty

let rec even n = n = 0 || odd (n - 1)
and odd n =
  n <> 0
  && even (n - 1)

class counter = object
  val mutable count = 0
  method increment =
    count <- count + 1
end
