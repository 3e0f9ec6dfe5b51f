{-# LANGUAGE OverloadedStrings #-}
-- Copyright 2024 The Authors.
-- | Keeps things by key.
module Example.Store
  ( Store (..)
  , open
  , readEntry
  ) where

import qualified Data.Map as Map
import Data.Text (Text)

-- | A store of entries on disk.
data Store = Store
  { path :: FilePath
  , entries :: Map.Map Text Text
  }

newtype Key = Key Text
  deriving (Eq, Ord)

type Entries = Map.Map Text Text

-- | What can be read.
class Source a where
  readFrom :: a -> Text -> Maybe Text
  readFrom _ _ = Nothing

instance Source Store where
  readFrom store key =
    Map.lookup key (entries store)

-- | Opens a store.
open :: FilePath -> IO Store
open path = do
  text <- readFile path
  let found = load text
  pure (Store path found)

load :: String -> Entries
load "" = Map.empty
load text =
  Map.fromList pairs
  where
    pairs = map split (lines text)

readEntry :: Store -> Text -> Maybe Text
readEntry store key = Map.lookup key (entries store)
