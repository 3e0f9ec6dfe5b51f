# Copyright 2024 The Authors.
terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  type    = string
  default = "eu-west-1"
}

locals {
  name = "store-${var.region}"
}

# The bucket of entries.
resource "aws_s3_bucket" "entries" {
  bucket = local.name

  tags = {
    Name = local.name
  }
}

data "aws_iam_policy_document" "read" {
  statement {
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.entries.arn}/*"]
  }
}

module "network" {
  source = "./network"
}

output "bucket" {
  value = aws_s3_bucket.entries.id
}
